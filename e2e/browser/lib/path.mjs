// A way to a server that can be cut: a TCP proxy for its pages and its WebSockets. Media goes past it.
import net from 'node:net';

export class Path {
  /** `path.server` is the server as it is found at the path's other end. */
  static async open(server) {
    const path = new Path();
    const { port } = new URL(server.http);
    const pairs = path.pairs = new Set();
    path.isCut = false;
    path.listener = net.createServer((near) => {
      if (path.isCut) {
        near.destroy();
        return;
      }
      const far = net.connect(Number(port), '127.0.0.1');
      const pair = { near, far };
      const end = () => {
        near.destroy();
        far.destroy();
        pairs.delete(pair);
      };
      pairs.add(pair);
      for (const [one, other] of [[near, far], [far, near]]) one.on('error', end).on('close', end).pipe(other);
    });
    await new Promise((resolve) => path.listener.listen(0, '127.0.0.1', resolve));
    const http = `http://localhost:${path.listener.address().port}`;
    path.server = { ...server, http, ws: http.replace('http', 'ws') };
    return path;
  }

  /** Ends every connection and lets no new one through until `mend`. */
  cut() {
    this.isCut = true;
    for (const { near } of this.pairs) near.destroy();
  }

  mend() {
    this.isCut = false;
  }

  async stop() {
    this.cut();
    await new Promise((resolve) => this.listener.close(resolve));
  }
}
