// The commands of a page of documentation, run as they stand there: what a test must change (a path, an address) it says.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { output, repository } from './cluster.mjs';

/** Lines of the page's shell blocks, without comments. */
function commands(page) {
  const blocks = [...readFileSync(join(repository, page), 'utf8').matchAll(/^```sh\n([^]*?)^```$/gm)];
  return blocks.flatMap(([, block]) => block.split('\n')).map((line) => line.replace(/\s+#.*$/, '').trim()).filter((line) => line && !line.startsWith('#'));
}

export class Page {
  /** The page at a path, for a cluster. */
  constructor(cluster, page) {
    Object.assign(this, { cluster, page, commands: commands(page), run: new Set() });
  }

  /** Runs the one command that begins so, with these changes, each of a text that is in it, and what is added at its end. */
  async follow(begin, changes = {}, more = []) {
    const found = this.commands.filter((command) => command.startsWith(begin));
    if (found.length !== 1) throw new Error(`${this.page} has ${found.length} commands that begin with: ${begin}`);
    const changed = Object.entries(changes).reduce((command, [text, other]) => {
      if (!command.includes(text)) throw new Error(`${this.page}: ${text} is not in: ${found[0]}`);
      return command.replace(text, other);
    }, found[0]);
    const words = more.map((word) => `'${word}'`);
    const environment = 'export PATH="$1:$(dirname "$RATSSAAL_BIN"):$PATH" HELM_CACHE_HOME="$1/helm-cache" HELM_CONFIG_HOME="$1/helm-config" HELM_DATA_HOME="$1/helm-data"; cd "$2"';
    const said = await output('bash', ['-euc', `${environment}; ${[changed, ...words].join(' ')}`, 'bash', this.cluster.run, repository]);
    this.run.add(found[0]);
    return said;
  }

  /** Commands that nobody has run, but for those that begin like one of these. */
  left(except) {
    return this.commands.filter((command) => !this.run.has(command) && !except.some((begin) => command.startsWith(begin)));
  }
}
