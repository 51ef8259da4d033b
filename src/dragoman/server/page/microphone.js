// The microphone: samples to the server while somebody speaks, words back.

import { liveSocket } from "./api.js";

const RATE = 16000;

export class Microphone {
  // `handle` is called with each event of the server, `lost` if the connection ends by itself.
  constructor(options, handle, lost) {
    Object.assign(this, { options, handle, lost, chunks: [] });
  }

  async start() {
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    this.context = new AudioContext({ sampleRate: RATE });
    await this.context.audioWorklet.addModule("/page/recorder.js");
    this.socket = liveSocket();
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onclose = () => reject(new Error("WebSocket"));
    });
    this.socket.onclose = () => this.stopped || this.lost();
    const { model, language } = this.options;
    const input = { format: { type: "audio/pcm", rate: RATE }, transcription: { model, language } };
    this.socket.send(JSON.stringify({ type: "session.update", session: { type: "transcription", audio: { input } } }));
    this.node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => {
      this.chunks.push(data);
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send(data);
    };
    this.context.createMediaStreamSource(this.stream).connect(this.node);
  }

  receive(event) {
    if (event.type === "input_audio_buffer.committed" || (this.stopped && event.type === "error")) this.committed?.();
    this.handle(event);
  }

  // Stop recording, wait for the last words, and return the samples.
  async stop() {
    this.stopped = true;
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
    if (this.socket.readyState === WebSocket.OPEN) {
      const committed = new Promise((resolve) => {
        this.committed = resolve;
        this.socket.onclose = resolve;
      });
      this.socket.send(JSON.stringify({ type: "input_audio_buffer.commit" }));
      await committed;
      this.socket.close();
    }
    return { chunks: this.chunks, rate: RATE };
  }
}
