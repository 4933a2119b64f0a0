// Runs before the page's own script: records what goes to the loudspeaker, where on the audio clock
// the pieces of speech were put, and which words lit up.
(() => {
  const recorder = `registerProcessor("recorder", class extends AudioWorkletProcessor {
    constructor() { super(); this.blocks = []; }
    process([input]) {
      this.blocks.push([currentFrame, input[0] ? input[0].slice() : new Float32Array(128)]);
      if (this.blocks.length === 16) {
        this.port.postMessage(this.blocks);
        this.blocks = [];
      }
      return true;
    }
  });`;
  const heard = { blocks: new Map(), pieces: [], received: null, words: [], lit: null, last: 0 };
  const { connect } = AudioNode.prototype;
  const { start } = AudioBufferSourceNode.prototype;
  const Context = window.AudioContext;
  let ready = Promise.resolve();

  window.AudioContext = class extends Context {
    constructor(options) {
      super(options);
      if (options?.sampleRate !== 24000) return; // not the one that speaks
      ready = this.audioWorklet.addModule(URL.createObjectURL(new Blob([recorder], { type: "text/javascript" }))).then(() => {
        this.tap = new AudioWorkletNode(this, "recorder");
        this.tap.port.onmessage = ({ data: blocks }) => {
          for (const [frame, block] of blocks) heard.blocks.set(frame, block);
          heard.last = blocks.at(-1)[0] + 128;
          if (heard.received === null && blocks.some(([, block]) => block.some((sample) => sample !== 0))) {
            heard.received = document.querySelector("#player").dataset.received;
          }
        };
        const silent = this.createGain();
        silent.gain.value = 0;
        connect.call(this.tap, silent);
        connect.call(silent, this.destination);
      });
    }
  };
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to === this.context.destination && this.context.tap) connect.call(this, this.context.tap);
    return connect.call(this, to, ...rest);
  };
  AudioBufferSourceNode.prototype.start = function (when, ...rest) {
    heard.pieces.push([Math.round(when * this.context.sampleRate), this.buffer.length]);
    return start.call(this, when, ...rest);
  };
  const real = window.fetch;
  window.fetch = async (...given) => { await ready; return real(...given); };

  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target === heard.lit || !target.matches(".word.now")) continue;
      heard.lit = target;
      heard.words.push(target.textContent);
    }
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ["class"] });

  window.heardByTest = () => {
    const samples = new Float32Array(heard.last);
    for (const [frame, block] of heard.blocks) if (frame + 128 <= heard.last) samples.set(block, frame);
    const bytes = new Uint8Array(samples.buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return { samples: btoa(text), pieces: heard.pieces, received: heard.received, words: heard.words };
  };
})();
