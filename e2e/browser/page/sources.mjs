// Cameras and microphones that can be told apart at the far end: a canvas of one hue, an oscillator of one frequency.

/** A picture of coarse random dots, which an encoder has to spend all its bits on. */
function dots(width, height) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { alpha: false });
  for (let y = 0; y < height; y += 4) {
    for (let x = 0; x < width; x += 4) {
      context.fillStyle = `rgb(${256 * Math.random()} ${256 * Math.random()} ${256 * Math.random()})`;
      context.fillRect(x, y, 4, 4);
    }
  }
  return canvas;
}

/**
 * A `fps` video track of `width`×`height` in `hue` (degrees), with enough motion that every simulcast layer has work; with
 * `busy` so much detail that each layer takes the whole bit rate it may have.
 */
export function camera({ hue, width = 1280, height = 720, fps = 15, busy = false }) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d', { alpha: false });
  let frame = 0;
  const detail = busy && dots(width * 2, height / 4);
  const paint = () => {
    context.fillStyle = `hsl(${hue} 100% 50%)`;
    context.fillRect(0, 0, width, height);
    // A bar of the same hue runs along the lower edge; the middle of the picture, which is read back, stays plain.
    context.fillStyle = `hsl(${hue} 100% 35%)`;
    for (let i = 0; i < 8; i++) context.fillRect((frame * 17 + (i * width) / 8) % width, height * 0.8, width / 24, height * 0.2);
    if (detail) context.drawImage(detail, -Math.random() * width, -Math.random() * height * 0.1);
    frame += 1;
  };
  paint();
  const timer = setInterval(paint, 1000 / fps);
  const track = canvas.captureStream(fps).getVideoTracks()[0];
  const stop = track.stop.bind(track);
  track.stop = () => { clearInterval(timer); stop(); };
  return track;
}

let context;
/**
 * The page's one running audio context, or null where none runs: Firefox starts none on a machine without a sound device.
 * Asked once; the answer stays.
 */
export function audio() {
  context ??= (async () => {
    const made = new AudioContext();
    const running = await Promise.race([made.resume().then(() => true), new Promise((resolve) => setTimeout(resolve, 2000, false))]);
    return running ? made : null;
  })();
  return context;
}

/**
 * An audio track with a sine of `hertz`. Without an audio context it is the browser's fake device, which was given that
 * frequency; `own` is the browser's `getUserMedia` where a page's was replaced.
 */
export async function microphone({ hertz, own = (constraints) => navigator.mediaDevices.getUserMedia(constraints) }) {
  const live = await audio();
  if (!live) {
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    return (await own({ audio: raw })).getAudioTracks()[0];
  }
  const oscillator = new OscillatorNode(live, { frequency: hertz });
  const gain = new GainNode(live, { gain: 0.5 });
  const destination = new MediaStreamAudioDestinationNode(live, { channelCount: 1 });
  oscillator.connect(gain).connect(destination);
  oscillator.start();
  return destination.stream.getAudioTracks()[0];
}

const pixel = document.createElement('canvas');
Object.assign(pixel, { width: 1, height: 1 });
const pixelContext = pixel.getContext('2d', { willReadFrequently: true });

/** The hue (degrees) in the middle of a video element, or null while it shows nothing coloured. */
export function hueOf(video) {
  if (video.readyState < 2 || video.videoWidth === 0) return null;
  pixelContext.drawImage(video, video.videoWidth / 2, video.videoHeight / 2, 1, 1, 0, 0, 1, 1);
  const [red, green, blue] = pixelContext.getImageData(0, 0, 1, 1).data;
  const max = Math.max(red, green, blue);
  const range = max - Math.min(red, green, blue);
  if (range < 60) return null;
  const sextant = max === red ? (green - blue) / range : max === green ? 2 + (blue - red) / range : 4 + (red - green) / range;
  return Math.round((sextant * 60 + 360) % 360);
}

const FFT = { fftSize: 8192, smoothingTimeConstant: 0 };

/** The strongest frequency an analyser has, in hertz; null below -60 dB. */
function strongest(analyser, sampleRate) {
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  let best = 1;
  for (let i = 2; i < bins.length; i++) if (bins[i] > bins[best]) best = i;
  return bins[best] > -60 ? Math.round((best * sampleRate) / analyser.fftSize) : null;
}

/** Half a second of `track`, recorded and analysed offline: needs no sound device. */
async function record(track) {
  const recorder = new MediaRecorder(new MediaStream([track]));
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, 500));
  recorder.stop();
  await stopped;
  const bytes = await new Blob(chunks).arrayBuffer();
  if (bytes.byteLength === 0) return null;
  const sampleRate = 48_000;
  const buffer = await new OfflineAudioContext(1, sampleRate, sampleRate).decodeAudioData(bytes);
  const offline = new OfflineAudioContext(1, buffer.length, sampleRate);
  const source = new AudioBufferSourceNode(offline, { buffer });
  const analyser = new AnalyserNode(offline, FFT);
  source.connect(analyser).connect(offline.destination);
  source.start();
  await offline.startRendering();
  return strongest(analyser, sampleRate);
}

/** Listens to a received audio track: `hertz()` is its strongest frequency, or null in silence. */
export async function ear(track) {
  const live = await audio();
  if (!live) return { hertz: () => record(track), close() {} };
  const source = live.createMediaStreamSource(new MediaStream([track]));
  const analyser = new AnalyserNode(live, FFT);
  source.connect(analyser);
  return { hertz: async () => strongest(analyser, live.sampleRate), close: () => source.disconnect() };
}
