// A bad network in user space: a UDP proxy in front of the bridge's media ports. The bridge advertises the proxy's address, so
// that every browser's media passes here; conditions hold for the participants who connect while they are set.
import dgram from 'node:dgram';

/** Where browsers find the bridge, and where it is. */
const FRONT = '127.0.0.2';
const BRIDGE = '127.0.0.1';

/** Random numbers from 0 to 1 that are the same in every run (mulberry32). */
function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One direction of a participant's line: first come, first served. */
class Line {
  constructor(conditions, random, deliver) {
    Object.assign(this, { conditions, random, deliver, waiting: [], timer: null, free: 0, last: 0 });
    this.counts = { passed: 0, lost: 0, overflown: 0 };
  }

  take(datagram) {
    const { kilobits, delay = 0, jitter = 0, loss = 0, queue = 300 } = this.conditions;
    const now = performance.now();
    if (this.random() < loss) {
      this.counts.lost++;
      return;
    }
    let leaves = now;
    if (kilobits) {
      const start = Math.max(now, this.free);
      if (start - now > queue) {
        this.counts.overflown++;
        return;
      }
      this.free = start + (datagram.length + 28) * 8 / kilobits;
      leaves = this.free;
    }
    // Jitter does not reorder.
    this.last = Math.max(this.last, leaves + delay + jitter * this.random());
    this.waiting.push({ at: this.last, datagram });
    this.arm();
  }

  arm() {
    if (this.timer || this.waiting.length === 0) return;
    this.timer = setTimeout(() => {
      this.timer = null;
      const now = performance.now() + 0.5;
      while (this.waiting.length > 0 && this.waiting[0].at <= now) {
        this.counts.passed++;
        this.deliver(this.waiting.shift().datagram);
      }
      this.arm();
    }, Math.max(0, this.waiting[0].at - performance.now()));
  }

  stop() {
    clearTimeout(this.timer);
    this.waiting = [];
  }
}

/**
 * `await Impairment.open(ports)`; `impairment.set({ down, up })` gives those who connect from now on their lines, with
 * `{ kilobits, delay, jitter, queue (ms), loss (0–1) }` each; it returns the lines' conditions, which may be changed meanwhile.
 */
export class Impairment {
  static async open(ports, seed = 1) {
    const impairment = new Impairment();
    Object.assign(impairment, { sockets: [], flows: new Map(), random: numbers(seed), conditions: { down: {}, up: {} } });
    for (const port of ports) {
      const front = dgram.createSocket('udp4');
      await new Promise((resolve, reject) => front.once('error', reject).bind(port, FRONT, resolve));
      front.on('message', (datagram, from) => impairment.flow(front, port, from).up.take(datagram));
      impairment.sockets.push(front);
    }
    return impairment;
  }

  /** The address to advertise. */
  get address() {
    return FRONT;
  }

  set({ down = {}, up = {} } = {}) {
    this.conditions = { down: { ...down }, up: { ...up } };
    return this.conditions;
  }

  flow(front, port, { address, port: from }) {
    const name = `${address}:${from}→${port}`;
    let flow = this.flows.get(name);
    if (!flow) {
      const back = dgram.createSocket('udp4');
      const { down, up } = this.conditions;
      flow = {
        back,
        up: new Line(up, this.random, (datagram) => back.send(datagram, port, BRIDGE)),
        down: new Line(down, this.random, (datagram) => front.send(datagram, from, address)),
      };
      back.on('message', (datagram) => flow.down.take(datagram));
      this.flows.set(name, flow);
    }
    return flow;
  }

  /** What became of the datagrams of the flows under these conditions. */
  counts({ down }) {
    const total = { passed: 0, lost: 0, overflown: 0 };
    for (const flow of this.flows.values()) {
      if (flow.down.conditions !== down) continue;
      for (const key of Object.keys(total)) total[key] += flow.down.counts[key];
    }
    return total;
  }

  async stop() {
    for (const { back, up, down } of this.flows.values()) {
      up.stop();
      down.stop();
      back.close();
    }
    await Promise.all(this.sockets.map((socket) => new Promise((resolve) => socket.close(resolve))));
  }
}
