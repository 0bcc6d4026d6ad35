/**
 * Two switches for the real clients to talk to: Open vSwitch's own daemons with dummy devices, and a topology of ours. What both are
 * told is the same; what they answer is compared.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Ringside } from '../../tools/ringside.ts';

/** Programs of Debian's openvswitch packages that a switch needs. */
export const CLIENTS = ['ovs-vsctl', 'ovs-ofctl', 'ovs-appctl'] as const;
/** `openvswitch-switch` links the daemon by its alternatives. */
export const DAEMONS = ['ovsdb-server', 'ovsdb-tool', 'ovs-vswitchd'] as const;

export interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
/** A switch, as its clients reach it. */
export interface Switch {
  /** Targets: of the database, of the bridge's OpenFlow, of ovs-vswitchd's unixctl socket. */
  readonly ovsdb: string;
  openflow(bridge: string): string;
  readonly unixctl: string;
  stop(): Promise<void>;
}

/** Runs a program to its end, at most `seconds`. */
export function run(program: string, args: readonly string[], seconds = 20, input?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, TZ: 'UTC' }, stdio: ['pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (bytes: Buffer) => out.push(bytes));
    child.stderr.on('data', (bytes: Buffer) => err.push(bytes));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input ?? '');
    const late = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(late);
      resolve({ status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    });
  });
}
export const vsctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run('ovs-vsctl', [`--db=${to.ovsdb}`, '--timeout=15', ...args]);
/** `BRIDGE` among the arguments stands for the target of br0. */
export const ofctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run(
    'ovs-ofctl',
    args.map((a) => (a === 'BRIDGE' ? to.openflow('br0') : a)),
  );
export const appctl = (to: Switch, ...args: readonly string[]): Promise<Answer> =>
  run('ovs-appctl', ['-t', to.unixctl, ...args]);

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await gone;
}

/** Open vSwitch's own daemons in a folder of their own; every interface is a dummy. */
export async function startReal(): Promise<Switch> {
  const folder = mkdtempSync(join(tmpdir(), 'ovs-'));
  const env = { ...process.env, OVS_RUNDIR: folder, OVS_LOGDIR: folder, OVS_DBDIR: folder };
  const file = join(folder, 'conf.db');
  const socket = join(folder, 'db.sock');
  const made = spawnSync('ovsdb-tool', ['create', file, '/usr/share/openvswitch/vswitch.ovsschema'], { env });
  if (made.status !== 0) throw new Error(String(made.stderr));
  const children: ChildProcess[] = [];
  const daemon = (program: string, ...args: string[]): void => {
    children.push(
      spawn(program, [...args, '-vconsole:off', '-vfile:warn', `--log-file=${join(folder, 'log')}`], {
        env,
        stdio: 'ignore',
      }),
    );
  };
  daemon('ovsdb-server', file, `--remote=punix:${socket}`, `--unixctl=${join(folder, 'ovsdb.ctl')}`);
  const unixctl = join(folder, 'vswitchd.ctl');
  const to: Switch = {
    ovsdb: `unix:${socket}`,
    openflow: (bridge) => `unix:${join(folder, `${bridge}.mgmt`)}`,
    unixctl,
    stop: async () => {
      for (const child of children.reverse()) await end(child);
      rmSync(folder, { recursive: true });
    },
  };
  await answers(() => vsctl(to, '--no-wait', 'init'));
  daemon('ovs-vswitchd', `unix:${socket}`, '--enable-dummy=override', '--disable-system', `--unixctl=${unixctl}`);
  await answers(() => appctl(to, 'version'));
  return to;
}
async function answers(ask: () => Promise<Answer>): Promise<void> {
  let last: Answer | null = null;
  for (let i = 0; i < 200; i++) {
    last = await ask();
    if (last.status === 0) return;
    await pause(50);
  }
  throw new Error(`the daemon does not answer: ${last?.stderr}`);
}

interface Endpoint {
  readonly host: string;
  readonly protocol: 'ovsdb' | 'openflow' | 'unixctl';
  readonly bridge?: string;
  readonly target: string;
}
/** A topology of one host, without a bridge unless `document` has one, in a server of its own unless one is given. */
export async function startOurs(
  document: object = { hosts: [{ name: 'h1', bridges: [] }] },
  server?: Ringside,
): Promise<Switch & { readonly server: Ringside; readonly topology: string }> {
  const own = server ?? (await Ringside.start());
  const topology = `t${++topologies}`;
  await own.json('PUT', `/v1/topologies/${topology}`, document);
  const endpoints = async (): Promise<readonly Endpoint[]> =>
    (await own.json<{ endpoints: Endpoint[] }>('GET', `/v1/topologies/${topology}`)).endpoints;
  const first = await endpoints();
  const target = (protocol: Endpoint['protocol']): string => {
    const found = first.find((e) => e.protocol === protocol);
    if (found === undefined) throw new Error(`no endpoint ${protocol}: ${JSON.stringify(first)}`);
    return found.target;
  };
  const unixctl = target('unixctl');
  return {
    ovsdb: target('ovsdb'),
    // as `ovs-ofctl br0` finds it: beside the unixctl socket
    openflow: (bridge) => `unix:${join(unixctl, '..', `${bridge}.mgmt`)}`,
    unixctl,
    server: own,
    topology,
    stop: async () => {
      if (server === undefined) await own.stop();
      else await own.json('DELETE', `/v1/topologies/${topology}`);
    },
  };
}
let topologies = 0;

/** What differs from run to run: times, ages, transaction numbers, addresses that a dummy device makes up, UUIDs, program noise. */
export function normalise(text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z\|\d+\|/g, 'LOG|')
    .replace(/\(xid=0x[0-9a-f]+\)/g, '(xid)')
    .replace(/xid=[0-9a-f]{8}/g, 'xid')
    .replace(/time=[\d.]+ ms/g, 'time')
    .replace(/duration[=:][\d.]+s/g, 'duration')
    .replace(/(idle|hard)_age=\d+/g, '$1_age')
    .replace(/aa:55:aa:55:[0-9a-f]{2}:[0-9a-f]{2}/g, 'MAC')
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UUID')
    .replace(/(tcp:127\.0\.0\.1:\d+|unix:[^ :\n"]+)/g, 'TARGET');
}
/** The log of the daemon or of a client: what a test that fails shows. */
export const text = (path: string): string => readFileSync(path, 'utf8');
