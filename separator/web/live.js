// The tab "Live": the microphone's samples go to the server, the stems' levels and spectrograms come back.
(() => {
  "use strict";
  const COLUMNS = 400;
  const HEIGHT = 80;
  // A recording as it sounds: what browsers do for calls takes voices away.
  const PLAIN = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  if (navigator.mediaDevices) {
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => ask(wanted.audio ? { ...wanted, audio: { ...wanted.audio, ...PLAIN } } : wanted);
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

    tell(text) {
      this.find(".live-said").textContent = text;
      this.find(".live-clock").textContent = "";
    }

    async start() {
      if (!navigator.mediaDevices) {
        this.tell("This browser gives the microphone only to pages of this machine, or over https.");
        return;
      }
      this.wait("Waiting for the microphone\u2026");
      try {
        this.microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
      } catch (error) {
        this.end(
          {
            NotFoundError: "No microphone was found.",
            NotReadableError: "The microphone is used by another program.",
          }[error.name] || "The microphone may not be used. Allow it in the browser, and press Start again.",
        );
        return;
      }
      this.microphone.getTracks().forEach((track) => (track.onended = () => this.lose()));
      try {
        await this.open();
      } catch {
        this.end("This browser cannot send the sound of its microphone.");
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
        this.tell("Loading the model…");
      };
      this.socket.onmessage = (event) => this.hear(event.data);
      this.socket.onclose = () => this.end("The connection was lost. What was said is not kept.");
    }

    // Until it goes on, or ends, there is nothing to press.
    wait(text) {
      this.find(".live-start").disabled = this.find(".live-model").disabled = true;
      this.tell(text);
    }

    ready() {
      this.find(".live-start").textContent = "Start";
      this.find(".live-start").disabled = this.find(".live-model").disabled = false;
    }

    hear(data) {
      if (typeof data !== "string") return this.draw(new Uint8Array(data));
      const message = JSON.parse(data);
      if (message.error) this.end(message.error);
      else if (message.page) {
        this.find(".live-stems").innerHTML = "";
        this.find(".live-page").innerHTML = message.page;
        this.end(message.told);
      } else this.begin(message);
    }

    begin({ sources, palette, bands, column }) {
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
      this.tell("");
      source.connect(node);
      this.isHeard = true;
    }

    // The microphone is gone.
    lose() {
      if (this.isHeard) this.stop();
      else this.end("The microphone was taken away.");
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
      this.wait("Drawing the pictures…");
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
      this.ending = this.isHeard = false;
      this.ready();
      this.tell(text);
    }
  }

  function begin() {
    document.querySelectorAll(".live").forEach((root) => {
      if (!root.separatorLive) root.separatorLive = new Live(root);
    });
  }
  new MutationObserver(begin).observe(document.documentElement, { childList: true, subtree: true });
  begin();
})();
