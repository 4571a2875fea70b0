// The "Live" tab. It sends samples of the microphone to the server, and shows the levels and spectrograms it gets back.
(() => {
  "use strict";
  const COLUMNS = 400;
  const HEIGHT = 80;
  // The unprocessed microphone. The processing that browsers apply for calls removes voices.
  const RAW_AUDIO = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  if (navigator.mediaDevices) {
    const request = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) =>
      request(wanted.audio ? { ...wanted, audio: { ...wanted.audio, ...RAW_AUDIO } } : wanted);
  }
  const WORKLET = `registerProcessor("samples", class extends AudioWorkletProcessor {
    constructor() { super(); this.kept = []; this.count = 0; }
    process([input]) {
      if (input.length) { this.kept.push(input[0].slice()); this.count += input[0].length; }
      if (this.count >= 0.04 * sampleRate) {
        const all = new Float32Array(this.count);
        let at = 0;
        for (const part of this.kept) { all.set(part, at); at += part.length; }
        this.port.postMessage(all, [all.buffer]);
        this.kept = []; this.count = 0;
      }
      return true;
    }
  });`;

  class Live {
    constructor(root) {
      this.root = root;
      this.find = (name) => root.querySelector(name);
      this.find(".live-start").addEventListener("click", () => (this.socket ? this.stop() : this.start()));
    }

    setStatus(text) {
      this.find(".live-said").textContent = text;
      this.find(".live-clock").textContent = "";
    }

    async start() {
      if (!navigator.mediaDevices) {
        this.setStatus("The browser allows the microphone only on pages of this machine or over https.");
        return;
      }
      this.setBusy("Waiting for the microphone\u2026");
      try {
        this.microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
      } catch (error) {
        this.end(
          {
            NotFoundError: "No microphone was found.",
            NotReadableError: "Another program is using the microphone.",
          }[error.name] || "The page may not use the microphone. Allow it in the browser, and press Start again.",
        );
        return;
      }
      this.microphone.getTracks().forEach((track) => (track.onended = () => this.onMicrophoneLost()));
      try {
        await this.open();
      } catch {
        this.end("This browser cannot send the sound of the microphone.");
      }
    }

    async open() {
      this.context = new AudioContext();
      await this.context.resume();
      const place = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
      await this.context.audioWorklet.addModule(place);
      URL.revokeObjectURL(place);
      const address = new URL("live", document.baseURI);
      address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
      this.socket = new WebSocket(address);
      this.socket.binaryType = "arraybuffer";
      this.socket.onopen = () => {
        const model = this.find(".live-model").value;
        this.socket.send(JSON.stringify({ model, rate: this.context.sampleRate }));
        this.setStatus("Loading the model…");
      };
      this.socket.onmessage = (event) => this.receive(event.data);
      this.socket.onclose = () => this.end("The connection was lost. The recording was discarded.");
    }

    // Show a status and disable the controls until the session starts or ends.
    setBusy(text) {
      this.find(".live-start").disabled = this.find(".live-model").disabled = true;
      this.setStatus(text);
    }

    setIdle() {
      this.find(".live-start").textContent = "Start";
      this.find(".live-start").disabled = this.find(".live-model").disabled = false;
    }

    receive(data) {
      if (typeof data !== "string") return this.draw(new Uint8Array(data));
      const message = JSON.parse(data);
      if (message.error) this.end(message.error);
      else if (message.page) {
        this.find(".live-stems").innerHTML = "";
        this.find(".live-page").innerHTML = message.page;
        this.end(message.told);
      } else this.showStems(message);
    }

    // Show the stems, and start to send samples.
    showStems({ sources, palette, bands, column }) {
      this.find(".live-page").innerHTML = "";
      this.find(".live-start").textContent = "Stop";
      this.find(".live-start").disabled = false;
      const bytes = Uint8Array.from(atob(palette), (letter) => letter.charCodeAt(0));
      this.colours = bytes;
      this.bands = bands;
      this.count = sources.length;
      this.seconds = this.shown = 0;
      this.column = column;
      this.find(".live-stems").innerHTML = "";
      this.lanes = sources.map((name) => {
        const row = document.createElement("div");
        row.className = "live-stem";
        const label = document.createElement("b");
        label.textContent = name;
        const meter = document.createElement("meter");
        meter.max = 255;
        meter.setAttribute("aria-label", `Level of ${name}`);
        const canvas = document.createElement("canvas");
        canvas.width = COLUMNS;
        canvas.height = HEIGHT;
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Spectrogram of ${name}, moving`);
        row.append(label, meter, canvas);
        this.find(".live-stems").append(row);
        const paper = canvas.getContext("2d", { willReadFrequently: true });
        paper.fillRect(0, 0, COLUMNS, HEIGHT);
        return { meter, paper };
      });
      const source = this.context.createMediaStreamSource(this.microphone);
      const node = new AudioWorkletNode(this.context, "samples", { numberOfOutputs: 0 });
      node.port.onmessage = (event) => {
        if (!this.socket || this.socket.readyState !== WebSocket.OPEN || this.ending) return;
        this.seconds += event.data.length / this.context.sampleRate;
        this.socket.send(event.data);
        const whole = Math.floor(this.seconds);
        const behind = this.seconds - this.shown > 2 ? `, ${Math.round(this.seconds - this.shown)} s behind` : "";
        const text = `Live for ${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}${behind}`;
        const clock = this.find(".live-clock");
        if (clock.textContent !== text) clock.textContent = text;
      };
      this.setStatus("");
      source.connect(node);
      this.isSending = true;
    }

    // The microphone was disconnected.
    onMicrophoneLost() {
      if (this.isSending) this.stop();
      else this.end("The microphone was disconnected.");
    }

    draw(bytes) {
      const size = this.count * (1 + this.bands);
      const columns = Math.floor(bytes.length / size);
      this.shown += columns * this.column;
      this.lanes.forEach(({ meter, paper }, stem) => {
        const old = paper.getImageData(columns, 0, COLUMNS - columns, HEIGHT);
        paper.putImageData(old, 0, 0);
        const image = paper.createImageData(columns, HEIGHT);
        for (let column = 0; column < columns; column += 1) {
          const start = column * size + stem * (1 + this.bands);
          meter.value = bytes[start];
          for (let band = 0; band < this.bands; band += 1) {
            const colour = 3 * bytes[start + 1 + band];
            const point = 4 * ((HEIGHT - 1 - band) * columns + column);
            image.data.set(this.colours.subarray(colour, colour + 3), point);
            image.data[point + 3] = 255;
          }
        }
        paper.putImageData(image, COLUMNS - columns, 0);
      });
    }

    stop() {
      this.ending = true;
      this.setBusy("Drawing the pictures…");
      this.socket.send(JSON.stringify({ stop: true }));
    }

    end(text) {
      if (this.socket) this.socket.onclose = null;
      this.socket?.close();
      this.microphone?.getTracks().forEach((track) => {
        track.onended = null;
        track.stop();
      });
      this.context?.close();
      this.socket = this.microphone = this.context = null;
      this.ending = this.isSending = false;
      this.setIdle();
      this.setStatus(text);
    }
  }

  function attach() {
    document.querySelectorAll(".live").forEach((root) => {
      if (!root.separatorLive) root.separatorLive = new Live(root);
    });
  }
  new MutationObserver(attach).observe(document.documentElement, { childList: true, subtree: true });
  attach();
})();
