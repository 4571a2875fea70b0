// Plays the tracks of a `.player` together, sample for sample. The sound is cut into blocks. Blocks of all tracks with
// the same position start at the same time of the browser's audio clock.
(() => {
  "use strict";
  const BLOCK_SECONDS = 4;
  // A block is loaded this long before it plays.
  const AHEAD_SECONDS = 8;
  const FADE_SECONDS = 0.015;

  function clock(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const padded = (value) => String(value).padStart(2, "0");
    return hours ? `${hours}:${padded(minutes)}:${padded(rest)}` : `${minutes}:${padded(rest)}`;
  }

  // Source of the samples of a track. `load(start, count)` returns a Float32Array for each channel.
  class Embedded {
    constructor(track, rate) {
      this.track = track;
      this.rate = rate;
      this.decoded = new Map();
    }
    async load(start, count) {
      const { length, pieces, channels } = this.track;
      const numbers = pieces.map((_, number) => number);
      const wanted = numbers.filter((number) => number * length < start + count && (number + 1) * length > start);
      const buffers = await Promise.all(wanted.map((number) => this.piece(number)));
      return Array.from({ length: channels }, (_, channel) => {
        const own = new Float32Array(count);
        buffers.forEach((buffer, index) => {
          const begin = wanted[index] * length - start;
          const samples = buffer.getChannelData(channel).subarray(Math.max(0, -begin), count - begin);
          own.set(samples, Math.max(0, begin));
        });
        return own;
      });
    }
    // Decode a piece. Only this piece and the one decoded before it stay in the cache.
    piece(number) {
      if (!this.decoded.has(number)) {
        const bytes = Uint8Array.from(atob(this.track.pieces[number]), (letter) => letter.charCodeAt(0));
        // The playing context may have another sample rate, so another context decodes.
        this.decoded.set(number, new OfflineAudioContext(1, 1, this.rate).decodeAudioData(bytes.buffer));
        const [oldest] = this.decoded.keys();
        if (this.decoded.size > 2) this.decoded.delete(oldest);
      }
      return this.decoded.get(number);
    }
  }

  class Served {
    constructor(track) {
      this.track = track;
    }
    async load(start, count) {
      const answer = await fetch(`${this.track.url}?start=${start}&count=${count}`);
      if (!answer.ok) throw new Error(`${answer.status}`);
      const samples = new Int16Array(await answer.arrayBuffer());
      const channels = this.track.channels;
      return Array.from({ length: channels }, (_, channel) => {
        const own = new Float32Array(samples.length / channels);
        for (let index = 0; index < own.length; index += 1) own[index] = samples[index * channels + channel] / 32768;
        return own;
      });
    }
  }

  class Player {
    constructor(root) {
      this.root = root;
      this.facts = JSON.parse(root.dataset.player);
      this.rows = [...root.querySelectorAll(".track")];
      this.states = this.facts.tracks.map((track) => ({ muted: track.muted, solo: false, level: 0 }));
      this.position = 0;
      this.end = this.facts.heard; // the pictures may be longer than the sound
      this.playing = false;
      this.run = 0;
      this.find = (name) => root.querySelector(name);
      this.find(".play").addEventListener("click", () => (this.playing ? this.pause() : this.play()));
      this.find(".seek").addEventListener("input", (event) => this.seek(Number(event.target.value)));
      this.find(".seek").addEventListener("change", () => this.endSeek());
      this.rows.forEach((row, index) => this.addControls(row, index));
      root.addEventListener("keydown", (event) => this.onKey(event));
      this.show();
    }

    addControls(row, index) {
      const state = this.states[index];
      const changed = () => {
        this.mix();
        this.show();
      };
      row.querySelector(".mute").addEventListener("click", () => {
        state.muted = !state.muted;
        changed();
      });
      row.querySelector(".solo").addEventListener("click", () => {
        state.solo = !state.solo;
        changed();
      });
      row.querySelector(".level").addEventListener("input", (event) => {
        state.level = Number(event.target.value);
        changed();
      });
      row.querySelector(".alone").addEventListener("click", () => {
        const isOn = this.playing && this.states.every((other) => other.solo === (other === state));
        this.states.forEach((other) => (other.solo = other === state));
        changed();
        if (isOn) this.pause();
        else if (!this.playing) this.play();
      });
      const lane = row.querySelector(".lane");
      lane.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        const [from, before] = [event.clientX, this.now()];
        let isDragging = false;
        const drag = (event) => {
          const box = lane.getBoundingClientRect();
          this.seek(((event.clientX - box.left) / box.width) * this.facts.seconds);
          isDragging = true;
        };
        const end = () => {
          lane.onpointermove = lane.onpointerup = lane.onpointercancel = null;
          this.endSeek();
        };
        lane.setPointerCapture(event.pointerId);
        lane.onpointermove = (event) => (isDragging || Math.abs(event.clientX - from) > 4) && drag(event);
        lane.onpointerup = (event) => {
          drag(event);
          end();
        };
        // The gesture turned out to scroll the page. Playing continues where it was.
        lane.onpointercancel = () => {
          if (isDragging) this.seek(before);
          end();
        };
      });
    }

    onKey(event) {
      if (event.target.matches("input, a") || event.altKey || event.ctrlKey || event.metaKey) return;
      const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
      if (event.key === " " && !event.target.matches("button")) this.playing ? this.pause() : this.play();
      else if (step) {
        this.seek(this.now() + step);
        this.endSeek();
      } else return;
      event.preventDefault();
    }

    // Gain of a track. If any track is solo, all others are silent.
    gain(index) {
      const state = this.states[index];
      const anySolo = this.states.some((other) => other.solo);
      return (anySolo ? !state.solo : state.muted) ? 0 : 10 ** (state.level / 20);
    }

    mix() {
      if (!this.context) return;
      this.gains.forEach((node, index) => {
        node.gain.setTargetAtTime(this.gain(index), this.context.currentTime, FADE_SECONDS);
      });
    }

    open() {
      if (this.context) return;
      try {
        this.context = new AudioContext({ sampleRate: this.facts.rate });
      } catch {
        this.context = new AudioContext(); // this browser cannot play the sample rate and converts each block
      }
      this.gains = this.facts.tracks.map((_, index) => {
        const node = this.context.createGain();
        node.gain.value = this.gain(index);
        node.connect(this.context.destination);
        return node;
      });
      this.sources = this.facts.tracks.map((track) => (track.url ? new Served(track) : new Embedded(track, this.facts.rate)));
    }

    now() {
      if (!this.playing || this.startTime === null) return this.position;
      return Math.min(this.end, this.position + Math.max(0, this.context.currentTime - this.startTime));
    }

    async play() {
      this.open();
      if (this.position >= this.end - 0.05) this.position = 0;
      this.playing = true;
      this.startTime = null;
      this.run += 1;
      this.find(".trouble").textContent = "Loading the sound\u2026";
      this.show();
      const run = this.run;
      document.querySelectorAll(".player").forEach((other) => {
        if (other !== this.root && other.separatorPlayer) other.separatorPlayer.pause();
      });
      try {
        await this.context.resume();
        await this.schedule(run);
      } catch (error) {
        if (run !== this.run) return;
        this.pause();
        this.find(".trouble").textContent = "The sound is no longer available. Separate the recording again.";
      }
    }

    // Load and schedule blocks until the end. `run` tells this call from later ones, which replace it.
    async schedule(run) {
      const rate = this.facts.rate;
      const end = Math.round(this.end * rate);
      let at = Math.round(this.position * rate);
      const first = at;
      this.nodes = [];
      const tick = () => {
        if (run !== this.run) return;
        if (!this.root.isConnected) return this.close(); // the player was removed from the page
        this.show();
        if (this.now() >= this.end) {
          this.position = this.end;
          this.stop();
          this.show();
        } else requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
      while (at < end && run === this.run) {
        const count = Math.min(end - at, Math.round(BLOCK_SECONDS * rate));
        const blocks = await Promise.all(this.sources.map((source) => source.load(at, count)));
        if (run !== this.run) return;
        const soonest = this.context.currentTime + 0.05;
        if (this.startTime === null) {
          this.startTime = soonest;
          this.find(".trouble").textContent = "";
        }
        const late = soonest - (this.startTime + (at - first) / rate);
        if (late > 0.05) this.startTime += late; // delay all tracks by the same time
        const when = this.startTime + (at - first) / rate;
        blocks.forEach((channels, index) => {
          if (!channels.length || !channels[0].length) return;
          const buffer = this.context.createBuffer(channels.length, channels[0].length, rate);
          channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
          const node = this.context.createBufferSource();
          node.buffer = buffer;
          node.connect(this.gains[index]);
          node.onended = () => (this.nodes = this.nodes.filter((other) => other !== node));
          node.start(when);
          this.nodes.push(node);
        });
        at += count;
        while (run === this.run && when + count / rate - this.context.currentTime > AHEAD_SECONDS)
          await new Promise((done) => setTimeout(done, 200));
      }
    }

    stop() {
      this.playing = false;
      this.find(".trouble").textContent = "";
      this.run += 1;
      this.context?.suspend();
      (this.nodes || []).forEach((node) => {
        node.onended = null;
        node.stop();
      });
      this.nodes = [];
    }

    pause() {
      this.position = this.now();
      this.stop();
      this.show();
    }

    // Stop and release the audio context.
    close() {
      this.pause();
      this.context?.close();
      this.context = null;
    }

    // Move to another position. Playing stops until `endSeek`, so that nothing is loaded while dragging.
    seek(seconds) {
      this.resumeAfterSeek = this.resumeAfterSeek || this.playing;
      if (this.playing) this.stop();
      this.position = Math.min(this.end, Math.max(0, seconds));
      this.show();
    }

    endSeek() {
      if (this.resumeAfterSeek) this.play();
      this.resumeAfterSeek = false;
    }

    // Continue at the position and with the settings of an older player of the same recording, which this one replaces.
    takeOver(other) {
      this.states.forEach((state, index) => Object.assign(state, other.states[index]));
      this.restore();
      this.position = other.now();
      const wasPlaying = other.playing;
      other.close();
      this.show();
      if (wasPlaying) this.play();
    }

    // Set the level sliders to the stored levels, and update the display.
    restore() {
      this.rows.forEach((row, index) => (row.querySelector(".level").value = String(this.states[index].level)));
      this.show();
    }

    show() {
      const now = this.now();
      this.root.style.setProperty("--at", String(now / this.facts.seconds));
      this.root.classList.toggle("is-playing", this.playing);
      this.find(".play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
      const seek = this.find(".seek");
      seek.value = String(now);
      const text = `${clock(now)} / ${clock(this.facts.seconds)}`;
      if (this.find(".clock").textContent !== text) {
        this.find(".clock").textContent = text;
        seek.setAttribute("aria-valuetext", text.replace("/", "of"));
      }
      this.rows.forEach((row, index) => {
        const state = this.states[index];
        row.querySelector(".mute").setAttribute("aria-pressed", String(state.muted));
        row.querySelector(".solo").setAttribute("aria-pressed", String(state.solo));
        row.querySelector(".decibels").textContent = `${state.level > 0 ? "+" : ""}${state.level} dB`;
        row.classList.toggle("is-silent", this.gain(index) === 0);
      });
    }
  }

  const players = new Map();
  function attach() {
    document.querySelectorAll(".player[data-player]").forEach((root) => {
      if (root.separatorPlayer) {
        // The page wrote its HTML again over this player, which reset its display.
        if (!root.querySelector(".clock").textContent) root.separatorPlayer.restore();
        return;
      }
      const player = (root.separatorPlayer = new Player(root));
      const place = player.facts.tracks[0].url;
      if (!place) return;
      const before = players.get(place);
      if (before && !before.root.isConnected) player.takeOver(before);
      players.set(place, player);
    });
    players.forEach((player, place) => {
      if (player.root.isConnected) return;
      player.close();
      players.delete(place);
    });
  }
  new MutationObserver(attach).observe(document.documentElement, { childList: true, subtree: true });
  attach();
})();
