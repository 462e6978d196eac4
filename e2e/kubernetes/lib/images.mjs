// The images of the test, without a registry: ours from the binary under test.
import { join } from 'node:path';
import { output, repository } from './cluster.mjs';

/** Our image, as a build of that version would be called: an upgrade goes from one tag to another. */
export async function ratssaal(folder, binary, tag) {
  await output(join(repository, 'scripts/image'), ['--binary', binary, '--name', `test.local/ratssaal:${tag}`, '--fast', '--client', join(folder, `ratssaal-${tag}.tar`)]);
}
