// The certificate of the installation under test, from an authority made for it.
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { output } from './cluster.mjs';

export const HOST = 'konferenz.landkreis.example';

/** An authority and a certificate for the host as files in the folder; `{ pin }` is what a browser is told to trust. */
export async function certificate(folder) {
  const at = (name) => join(folder, name);
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await output('openssl', ['req', '-x509', ...ec, '-keyout', at('ca.key'), '-out', at('ca.crt'), '-days', '30', '-subj', '/CN=Landkreis Beispiel']);
  await output('openssl', ['req', ...ec, '-keyout', at('tls.key'), '-out', at('tls.csr'), '-subj', `/CN=${HOST}`, '-addext', `subjectAltName=DNS:${HOST}`]);
  await output('openssl', ['x509', '-req', '-in', at('tls.csr'), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '30', '-copy_extensions', 'copy', '-out', at('tls.crt')]);
  const spki = new X509Certificate(readFileSync(at('tls.crt'))).publicKey.export({ type: 'spki', format: 'der' });
  return { pin: createHash('sha256').update(spki).digest('base64'), certificate: at('tls.crt'), key: at('tls.key'), authority: at('ca.crt') };
}
