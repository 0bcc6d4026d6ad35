/** TLS and credentials, with a real NATS server and a CA made here: who is let in, and what is told to those who are not. */
import assert from 'node:assert/strict';
import { afterAll, afterEach } from 'vitest';
import { NatsQueue } from '../../src/fleet/nats.ts';
import { type NatsFiles, NO_NATS_FILES, readNatsFiles } from '../../src/fleet/nats-files.ts';
import { NatsLink } from '../../src/fleet/nats-link.ts';
import { engineVersion } from '../../src/lab/job/engine-version.ts';
import { contentHash } from '../../src/lab/job/job.ts';
import { runJob } from '../../src/lab/job/run-job.ts';
import { Ringside } from '../tools/ringside.ts';
import { jobOf, queued, Told } from '../unit/fleet/jobs.ts';
import { Authority, operatorMode, SecureServer } from './nats-secure.ts';
import { WorkerProcess } from './nats-server.ts';
import { requirePeer } from './peers.ts';

const natsTest = requirePeer('nats-server', 'openssl');
const PASSWORD = 'p@ss-w0rd';
const USER = `me:${encodeURIComponent(PASSWORD)}@`;

interface Certificates {
  readonly own: Authority;
  readonly server: { readonly cert: string; readonly key: string };
  readonly client: { readonly cert: string; readonly key: string };
}
let made: Certificates | null = null;
/** One CA for all tests; nothing is made where the programs are missing. */
function certificates(): Certificates {
  if (made !== null) return made;
  const own = new Authority('own');
  made = { own, server: own.issue('broker', 'IP:127.0.0.1', 'DNS:broker.example'), client: own.issue('client') };
  return made;
}
afterAll(() => made?.own.remove());

/** Whatever a test has started ends after it, the last first. */
const started: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of started.splice(0).reverse()) await stop();
});
async function startServer(configuration: string): Promise<SecureServer> {
  const server = await SecureServer.start(configuration);
  started.push(() => server.stop());
  return server;
}
const tlsBlock = ({ cert, key }: Certificates['server'], verify: string | null = null): string =>
  `tls { cert_file: "${cert}", key_file: "${key}"${verify === null ? '' : `, ca_file: "${verify}", verify: true`} }\n`;
const users = (password: string): string => `authorization { user: me, password: ${JSON.stringify(password)} }\n`;
/** A server that wants TLS, certificates of clients, and a password. */
function strict(): Promise<SecureServer> {
  const { own, server } = certificates();
  return startServer(tlsBlock(server, own.ca) + users(PASSWORD));
}

/** A link, with what it has said so far, and a promise of what it says next. */
function open(url: string, files: Partial<NatsFiles> = {}, more: { sayAgainMs?: number; askWhyMs?: number } = {}) {
  const said: string[] = [];
  const waiting: { met: () => boolean; resolve: () => void }[] = [];
  const look = (): void => {
    for (const { met, resolve } of waiting) if (met()) resolve();
  };
  let connections = 0;
  const connected = (): void => {
    connections++;
    look();
  };
  const link = new NatsLink(
    {
      ...{ url, files: { ...NO_NATS_FILES, ...files }, prefix: 'test', name: 'test', ...more },
      trouble: (text) => {
        said.push(text);
        look();
      },
    },
    { connected, again: connected },
  );
  started.push(() => link.close());
  const until = (met: () => boolean): Promise<void> =>
    met() ? Promise.resolve() : new Promise((resolve) => waiting.push({ met, resolve }));
  return {
    said,
    /** The first that it says that matches. */
    says: async (pattern: RegExp, from = 0): Promise<string> => {
      const found = (): string | undefined => said.slice(from).find((text) => pattern.test(text));
      await until(() => found() !== undefined);
      return found() ?? '';
    },
    isConnected: (times = 1) => until(() => connections >= times),
    connections: () => connections,
  };
}
/** What a link says first that cannot connect; never a password. */
async function refusal(url: string, files: Partial<NatsFiles> = {}): Promise<string> {
  const { says, connections } = open(url, files);
  const text = await says(/./);
  assert.equal(connections(), 0);
  assert.doesNotMatch(text, /w0rd/);
  return text;
}

natsTest('a job goes through TLS with certificates of both sides, and nobody tells the password', async () => {
  const { port } = await strict();
  const { own, client } = certificates();
  const url = `tls://${USER}127.0.0.1:${port}`;
  const files = { RINGSIDE_NATS_CA: own.ca, RINGSIDE_NATS_CERT: client.cert, RINGSIDE_NATS_KEY: client.key };
  const worker = new WorkerProcess({ url }, { RINGSIDE_NATS_PREFIX: 'test', ...files });
  started.push(() => worker.crash());
  const told = new Told();
  const troubles: string[] = [];
  const read = readNatsFiles({ ...files, RINGSIDE_NATS_URL: url }, null);
  assert.deepEqual(read.faults, []);
  const queue = new NatsQueue(told, {
    ...{ url, files: read.files, prefix: 'test', trouble: (text) => troubles.push(text) },
  });
  started.push(() => queue.close());
  const job = queued(jobOf(1, { engine: engineVersion() }));
  queue.submit(job);
  const outcome = await told.outcome(job);
  assert.equal(outcome.kind === 'result' ? outcome.digest : outcome.kind, contentHash(runJob(job.job)));
  assert.equal(await worker.stop(), 0);
  assert.match(worker.output, /has ended after 1 jobs/);
  assert.doesNotMatch(worker.output + troubles.join(), /w0rd/);
});

natsTest('a server is told its files by the environment; no answer of the API has the password', async () => {
  const { port } = await strict();
  const { own, client } = certificates();
  const files = { RINGSIDE_NATS_CA: own.ca, RINGSIDE_NATS_CERT: client.cert, RINGSIDE_NATS_KEY: client.key };
  const url = `nats://${USER}127.0.0.1:${port}`;
  const server = await Ringside.start({ RINGSIDE_NATS_URL: url, ...files });
  started.push(() => server.stop());
  const worker = new WorkerProcess({ url }, files);
  started.push(() => worker.crash());
  const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 20 };
  const { id } = await server.json<{ id: string }>('POST', '/v1/experiments', {
    template: { topology: { preset: 'vhost-net' }, traffic: [udp] },
  });
  let view: { state: string };
  do view = await server.json('GET', `/v1/experiments/${id}?wait=60s`);
  while (view.state === 'RUNNING');
  assert.equal(view.state, 'SUCCEEDED', `${server.output}\n${worker.output}`);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /^ringside_nats_connected 1$/m);
  for (const text of [JSON.stringify(view), metrics, server.output, worker.output]) assert.doesNotMatch(text, /w0rd/);
});

natsTest('who does not know the CA, or shows no certificate, is told so', async () => {
  const { port } = await strict();
  const { own, client } = certificates();
  const other = new Authority('other');
  started.push(async () => other.remove());
  const url = `tls://${USER}127.0.0.1:${port}`;
  const unknown = /: the server's certificate is of no authority that is known here: RINGSIDE_NATS_CA /;
  assert.match(await refusal(url), unknown);
  // A server that speaks TLS is believed as little where the address does not ask for it.
  assert.match(await refusal(url.replace('tls', 'nats')), unknown);
  assert.match(await refusal(url, { ca: other.ca, ...client }), unknown);
  // Its alert, or the end of the connection, whichever is read first.
  const wanted = / refuses our certificate, or wants one: RINGSIDE_NATS_CERT and RINGSIDE_NATS_KEY /;
  assert.match(await refusal(url, { ca: own.ca }), wanted);
  assert.match(await refusal(url, { ca: own.ca, ...other.issue('stranger') }), wanted);
  // As a process says it.
  const worker = new WorkerProcess({ url }, { RINGSIDE_NATS_CA: other.ca });
  started.push(() => worker.crash());
  while (!/NATS at/.test(worker.output) && worker.alive) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.match(worker.output, unknown);
  assert.doesNotMatch(worker.output, /w0rd/);
});

natsTest("a certificate has to be the server's: its name, or its address", async () => {
  const { own, client } = certificates();
  const local = own.issue('local', 'DNS:localhost');
  const files = { ca: own.ca, ...client };
  const named = await startServer(tlsBlock(local));
  // An address is not a name that everybody has.
  assert.match(
    await refusal(`tls://127.0.0.1:${named.port}`, files),
    /: the server's certificate is for another name than RINGSIDE_NATS_URL has: .*127\.0\.0\.1/,
  );
  await open(`tls://localhost:${named.port}`, files).isConnected();
  const { port } = await startServer(tlsBlock(certificates().server));
  assert.match(await refusal(`tls://localhost:${port}`, files), /for another name .*localhost/);
  await open(`tls://127.0.0.1:${port}`, files).isConnected();
  // Who does not ask for TLS and trusts the CA all the same is told that the address is not looked for.
  const worker = new WorkerProcess({ url: `nats://127.0.0.1:${port}` }, { NODE_EXTRA_CA_CERTS: own.ca });
  started.push(() => worker.crash());
  while (!/NATS at/.test(worker.output) && worker.alive) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.match(worker.output, /has, or for an address, which wants tls:\/\/ there: /);
});

natsTest('a server without TLS is not given the password by those who want TLS', async () => {
  const { port } = await startServer(users(PASSWORD));
  const text = /: the server speaks no TLS, and RINGSIDE_NATS_URL or the files that are set ask for it$/;
  assert.match(await refusal(`tls://${USER}127.0.0.1:${port}`), text);
  assert.match(await refusal(`nats://${USER}127.0.0.1:${port}`, { ca: certificates().own.ca }), text);
  await open(`nats://${USER}127.0.0.1:${port}`).isConnected();
});

natsTest('refused credentials are told, and told again; also where the server changes its mind', async () => {
  const server = await startServer(users(PASSWORD));
  const at = `127.0.0.1:${server.port}`;
  assert.match(await refusal(`nats://${at}`), /: the server wants credentials: a user or token in RINGSIDE_NATS_URL/);
  const wrong = open(`nats://me:other@${at}`, {}, { sayAgainMs: 300 });
  assert.match(await wrong.says(/./), /: the server refuses the credentials of RINGSIDE_NATS_URL or /);
  await wrong.says(/: still no connection: the server refuses the credentials/);

  const right = open(`nats://${USER}${at}`, {}, { sayAgainMs: 300, askWhyMs: 100 });
  await right.isConnected();
  const from = right.said.length;
  await server.run(users('changed'));
  assert.match(await right.says(/refuses/, from), /: the server refuses the credentials/);
  await right.says(/: still no connection: the server refuses/, from);
  await server.run(users(PASSWORD));
  await right.isConnected(2);
  // Each refused attempt was a connection that was lost, and each of these came back.
  assert.equal(right.connections(), 2);
  assert.equal(right.said.filter((text) => text.endsWith('the connection is lost')).length, 1, right.said.join('\n'));
  assert.doesNotMatch(right.said.join(), /w0rd/);
});

natsTest('a token, and a file of credentials as nsc writes them', async () => {
  const token = await startServer('authorization { token: "s3cret" }\n');
  await open(`nats://s3cret@127.0.0.1:${token.port}`).isConnected();
  const { configuration, creds } = operatorMode();
  const { port } = await startServer(configuration);
  const file = certificates().own.write('user.creds', creds);
  const { files, faults } = readNatsFiles({ RINGSIDE_NATS_CREDS: file, RINGSIDE_NATS_URL: 'nats://x' }, null);
  assert.deepEqual(faults, []);
  await open(`nats://127.0.0.1:${port}`, files).isConnected();
  const stranger = certificates().own.write('stranger.creds', operatorMode().creds);
  assert.match(
    await refusal(`nats://127.0.0.1:${port}`, { creds: stranger }),
    /: the server refuses the credentials of RINGSIDE_NATS_URL or RINGSIDE_NATS_CREDS /,
  );
});

natsTest('files that do not belong together are found at the start', () => {
  const { own, server, client } = certificates();
  const url = { RINGSIDE_NATS_URL: 'tls://broker' };
  const faults = (env: Record<string, string>): readonly string[] => readNatsFiles({ ...url, ...env }, null).faults;
  const cert = { RINGSIDE_NATS_CERT: client.cert };
  assert.deepEqual(faults({ RINGSIDE_NATS_CA: own.ca, ...cert, RINGSIDE_NATS_KEY: client.key }), []);
  assert.deepEqual(faults({ ...cert, RINGSIDE_NATS_KEY: server.key }), [
    'RINGSIDE_NATS_KEY is not the key of the certificate in RINGSIDE_NATS_CERT',
  ]);
  assert.deepEqual(faults({ RINGSIDE_NATS_CA: own.file('own.key') }), ['RINGSIDE_NATS_CA holds no PEM certificate']);
  assert.deepEqual(faults({ RINGSIDE_NATS_CERT: client.key, RINGSIDE_NATS_KEY: client.cert }), [
    'RINGSIDE_NATS_CERT holds no PEM certificate',
    'RINGSIDE_NATS_KEY holds no PEM private key that can be read without a passphrase',
  ]);
});
