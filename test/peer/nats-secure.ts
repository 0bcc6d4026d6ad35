/** A NATS server that wants TLS or credentials; certificates of a CA that is made for the test; accounts with JWTs. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nkeys } from '@nats-io/transport-node';
import { Child } from '../tools/child.ts';
import { freePort } from '../tools/free-port.ts';

/** A folder of a test's files, with a CA in it. */
export class Authority {
  readonly folder = mkdtempSync(join(tmpdir(), 'ringside-ca-'));
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    this.openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', this.file(`${name}.key`), '-out', this.file(`${name}.pem`)],
      ...['-days', '2', '-subj', `/CN=${name}`],
    );
  }
  get ca(): string {
    return this.file(`${this.name}.pem`);
  }
  /** Makes a certificate for names (`DNS:broker`, `IP:127.0.0.1`), or for a client. */
  issue(name: string, ...names: readonly string[]): { readonly cert: string; readonly key: string } {
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((end) => this.file(`${name}.${end}`));
    this.openssl('req', ...NEW_KEY, '-keyout', key!, '-out', request!, '-subj', `/CN=${name}`);
    const use = names.length === 0 ? 'extendedKeyUsage=clientAuth' : `subjectAltName=${names.join(',')}`;
    writeFileSync(extensions!, use);
    this.openssl(
      ...['x509', '-req', '-in', request!, '-out', cert!, '-extfile', extensions!, '-days', '2'],
      ...['-CA', this.ca, '-CAkey', this.file(`${this.name}.key`), '-CAcreateserial'],
    );
    return { cert: cert!, key: key! };
  }
  /** Writes a file; its full name. */
  write(name: string, text: string): string {
    writeFileSync(this.file(name), text);
    return this.file(name);
  }
  file(name: string): string {
    return join(this.folder, name);
  }
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
  private openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }
}
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** A server with JetStream and the configuration that a test gives. */
export class SecureServer {
  readonly port: number;
  private readonly folder = mkdtempSync(join(tmpdir(), 'ringside-nats-'));
  private child: Child | null = null;

  private constructor(port: number) {
    this.port = port;
  }
  static async start(configuration: string): Promise<SecureServer> {
    const server = new SecureServer(await freePort());
    await server.run(configuration);
    return server;
  }
  /** Ends it if it runs, and starts it with this configuration and the files that are there. */
  async run(configuration: string): Promise<void> {
    await this.child?.stop();
    const store = join(this.folder, 'store');
    mkdirSync(store, { recursive: true });
    const file = join(this.folder, 'nats.conf');
    const listen = `listen: "127.0.0.1:${this.port}"\njetstream { store_dir: ${JSON.stringify(store)} }\n`;
    writeFileSync(file, listen + configuration);
    const child = new Child('nats-server', ['-c', file]);
    this.child = child;
    await child.until(async () => child.output.includes('Server is ready'), 'ready');
  }
  async stop(): Promise<void> {
    await this.child?.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Configuration of a server with an operator, one account with JetStream, and a user's file of credentials. */
export function operatorMode(): { readonly configuration: string; readonly creds: string } {
  const [operator, user] = [nkeys.createOperator(), nkeys.createUser()];
  const [system, account] = [nkeys.createAccount(), nkeys.createAccount()];
  const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const jetstream = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const preload = (of: typeof account, allowed: object): string =>
    `${of.getPublicKey()}: ${jwt(operator, of.getPublicKey(), { type: 'account', limits: allowed })}`;
  const configuration = [
    `operator: ${jwt(operator, operator.getPublicKey(), { type: 'operator' })}`,
    `system_account: ${system.getPublicKey()}`,
    'resolver: MEMORY',
    `resolver_preload { ${preload(system, limits)}\n${preload(account, { ...limits, ...jetstream })} }`,
  ].join('\n');
  const userJwt = jwt(account, user.getPublicKey(), { type: 'user', subs: -1, data: -1, payload: -1 });
  const block = (what: string, text: string): string => `-----BEGIN ${what}-----\n${text}\n------END ${what}------\n`;
  const seed = new TextDecoder().decode(user.getSeed());
  return { configuration, creds: `${block('NATS USER JWT', userJwt)}\n${block('USER NKEY SEED', seed)}` };
}
function jwt(issuer: ReturnType<typeof nkeys.createUser>, sub: string, nats: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const iat = Math.floor(Date.now() / 1000);
  const claims = { jti: sub, iat, iss: issuer.getPublicKey(), name: 'test', sub, nats: { ...nats, version: 2 } };
  const text = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`;
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString('base64url')}`;
}
