/**
 * Files that a NATS connection is made with: the CA that has signed the server's certificate, a certificate of our own, a
 * file of credentials. Named in the environment of server and workers; looked at when they start, and read again at each connection, so
 * that files may be renewed.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { NatsAddress } from './nats-address.ts';

/** Names of files; null where there is none. */
export interface NatsFiles {
  /** PEM: certificates of the authorities that the server's certificate may be of, in the place of those that Node.js knows. */
  readonly ca: string | null;
  /** PEM: certificate that is shown to a server which asks for one, and its key. Both or neither. */
  readonly cert: string | null;
  readonly key: string | null;
  /** JWT and seed as the tool `nsc` writes them (`.creds`). */
  readonly creds: string | null;
}
export const NO_NATS_FILES: NatsFiles = { ca: null, cert: null, key: null, creds: null };

/** With each the variable that names it. */
export const NATS_VARIABLES = {
  ca: 'RINGSIDE_NATS_CA',
  cert: 'RINGSIDE_NATS_CERT',
  key: 'RINGSIDE_NATS_KEY',
  creds: 'RINGSIDE_NATS_CREDS',
} as const satisfies Record<keyof NatsFiles, string>;

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
/** What the client looks for: two blocks, the first the JWT, the second the seed of the user's key. */
const CREDENTIALS =
  /-{3,}BEGIN NATS USER JWT-{3,}\s+\S+\s+-{3,}[^\n]*-{3,}[\s\S]*-{3,}BEGIN USER NKEY SEED-{3,}\s+SU[A-Z2-7]+\s+-{3,}/;

/** A connection with files for TLS is one with TLS, also where the address begins with `nats://`. */
export function wantsTls({ tls }: NatsAddress, { ca, cert }: NatsFiles): boolean {
  return tls || ca !== null || cert !== null;
}

/**
 * Names from the environment, with what is wrong with each, one sentence for each fault. Never with a word of what is in them. `address`
 * is null where it is none.
 */
export function readNatsFiles(
  env: Readonly<Record<string, string | undefined>>,
  address: NatsAddress | null,
): { readonly files: NatsFiles; readonly faults: readonly string[] } {
  const name = (variable: string): string | null => env[variable]?.trim() || null;
  const files: NatsFiles = {
    ca: name(NATS_VARIABLES.ca),
    cert: name(NATS_VARIABLES.cert),
    key: name(NATS_VARIABLES.key),
    creds: name(NATS_VARIABLES.creds),
  };
  const faults: string[] = [];
  const { ca, cert, key, creds } = NATS_VARIABLES;
  const read = (variable: string, file: string | null): string | null => {
    if (file === null) return null;
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      faults.push(`${variable} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
      return null;
    }
  };
  const authorities = read(ca, files.ca);
  if (authorities !== null && certificates(authorities) === null) faults.push(`${ca} holds no PEM certificate`);
  const own = read(cert, files.cert);
  const secret = read(key, files.key);
  if ((files.cert === null) !== (files.key === null))
    faults.push(`${files.cert === null ? key : cert} is set without ${files.cert === null ? cert : key}: set both`);
  const first = own === null ? null : (certificates(own)?.[0] ?? null);
  if (own !== null && first === null) faults.push(`${cert} holds no PEM certificate`);
  const privateKey = secret === null ? null : keyOf(secret);
  if (secret !== null && privateKey === null)
    faults.push(`${key} holds no PEM private key that can be read without a passphrase`);
  if (first !== null && privateKey !== null && !first.checkPrivateKey(privateKey))
    faults.push(`${key} is not the key of the certificate in ${cert}`);
  const credentials = read(creds, files.creds);
  if (credentials !== null && !CREDENTIALS.test(credentials))
    faults.push(`${creds} holds no NATS credentials: expected a user's JWT and seed, as nsc writes them`);
  if (files.creds !== null && address !== null && address.user !== null)
    faults.push(`${creds} is set, and RINGSIDE_NATS_URL has credentials too: set one of them`);
  const [named] = Object.values(NATS_VARIABLES).filter((variable) => name(variable) !== null);
  if (named !== undefined && name('RINGSIDE_NATS_URL') === null)
    faults.push(`${named} is set without RINGSIDE_NATS_URL: set it too`);
  return { files, faults };
}

/** Null: there is none, or one that cannot be read. */
function certificates(text: string): readonly X509Certificate[] | null {
  const blocks = text.match(CERTIFICATES) ?? [];
  try {
    return blocks.length === 0 ? null : blocks.map((block) => new X509Certificate(block));
  } catch {
    return null;
  }
}
function keyOf(text: string): ReturnType<typeof createPrivateKey> | null {
  try {
    return createPrivateKey(text);
  } catch {
    return null;
  }
}
