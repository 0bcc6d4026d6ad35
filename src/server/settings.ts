/**
 * What the environment says: addresses, credentials, where state lives and the limits. Read once by main.ts; everything
 * else receives a `Settings` value.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { availableParallelism, homedir } from 'node:os';
import { join } from 'node:path';
import { natsAddress } from '../fleet/nats-address.ts';
import { type NatsFiles, readNatsFiles } from '../fleet/nats-files.ts';

export interface Limits {
  /** Topologies at a time. */
  readonly topologies: number;
  /** Guests of one topology. */
  readonly guests: number;
  /** Bytes that all worlds together may reserve: guests' memory and the event and byte rings. */
  readonly memory: number;
  /** Bytes of a JSON or YAML body. */
  readonly body: number;
  /** Bytes of a pcap or pcapng body. */
  readonly capture: number;
  /** Traffic runs in progress in one topology. */
  readonly runs: number;
  /** Event streams, WebSockets and capture downloads at a time. */
  readonly streams: number;
  /** Bytes waiting in a WebSocket's send buffer before reading stops for that client. */
  readonly socketBuffer: number;
  /** Bytes of one guest memory read. */
  readonly memoryRead: number;
  /** Series of all topologies together at /metrics; whole metrics are left out beyond it. */
  readonly metricsSeries: number;
  /** Captures on disk, of all topologies. */
  readonly captures: number;
  /** Bytes of all of them. */
  readonly captureDisk: number;
  /** Experiments that are kept, those that have ended included. */
  readonly experiments: number;
  /** Runs of one experiment. */
  readonly experimentRuns: number;
}

export interface Settings {
  readonly host: string;
  readonly port: number;
  /** Folder of the database; null keeps it in memory (tests). */
  readonly dataDir: string | null;
  /** Address that the TCP ports of emulated Open vSwitches listen on. */
  readonly ovsHost: string;
  readonly token: string | null;
  /** Host names, lower case and without port, that the Host header may carry beside the loopback names. */
  readonly allowedHosts: readonly string[];
  /** Engine threads. */
  readonly workers: number;
  /** Threads for the runs of experiments, where no queue of another machine is named. */
  readonly jobThreads: number;
  /** Bytes of the JavaScript heap of each of them. */
  readonly jobHeap: number;
  /** Address of a NATS server that holds the queue of jobs, for workers on any machine; null: this machine runs them. */
  readonly natsUrl: string | null;
  /** For TLS and credentials there. */
  readonly natsFiles: NatsFiles;
  /** What the names of its streams and buckets begin with. */
  readonly natsPrefix: string;
  readonly limits: Limits;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

export const DEFAULT_JOB_HEAP = GIB;

export const DEFAULT_LIMITS: Limits = {
  topologies: 32,
  guests: 64,
  memory: 16 * GIB,
  body: MIB,
  capture: 64 * MIB,
  runs: 64,
  streams: 256,
  socketBuffer: 4 * MIB,
  memoryRead: MIB,
  metricsSeries: 200_000,
  captures: 64,
  captureDisk: 16 * GIB,
  experiments: 100,
  experimentRuns: 100_000,
};

/** A setting that cannot be used; the message is for the person who starts the server. */
export class SettingsError extends Error {}

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads all settings, throws SettingsError with every fault in its message. */
export function readSettings(env: Environment): Settings {
  const faults: string[] = [];
  const attempt = <T>(fallback: T, read: () => T): T => {
    try {
      return read();
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
      return fallback;
    }
  };
  const count = (name: string, fallback: number, min: number, max: number): number =>
    attempt(fallback, () => integer(name, env[name], fallback, min, max));
  const size = (name: string, fallback: number): number => attempt(fallback, () => bytes(name, env[name], fallback));

  const natsUrl = attempt(null, () => queueUrl(env['RINGSIDE_NATS_URL']));
  const nats = readNatsFiles(env, natsUrl === null ? null : natsAddress(natsUrl));
  faults.push(...nats.faults);
  const settings: Settings = {
    host: present(env['HOST']) ?? '127.0.0.1',
    port: count('PORT', 8080, 0, 65535),
    dataDir: present(env['RINGSIDE_DATA_DIR']) ?? defaultDataDir(env, process.platform),
    ovsHost: attempt('127.0.0.1', () => address('RINGSIDE_OVS_HOST', env['RINGSIDE_OVS_HOST'], '127.0.0.1')),
    token: attempt(null, () => readToken(env)),
    allowedHosts: (env['RINGSIDE_ALLOWED_HOSTS'] ?? '')
      .split(',')
      .map((name) => name.trim().toLowerCase())
      .filter((name) => name !== ''),
    workers: count('RINGSIDE_WORKERS', availableParallelism(), 1, 1024),
    jobHeap: size('RINGSIDE_JOB_HEAP', DEFAULT_JOB_HEAP),
    jobThreads: count('RINGSIDE_JOB_THREADS', availableParallelism(), 1, 1024),
    natsUrl,
    natsFiles: nats.files,
    natsPrefix: attempt('ringside', () => queuePrefix(env['RINGSIDE_NATS_PREFIX'])),
    limits: {
      topologies: count('RINGSIDE_MAX_TOPOLOGIES', DEFAULT_LIMITS.topologies, 1, 10_000),
      guests: count('RINGSIDE_MAX_GUESTS', DEFAULT_LIMITS.guests, 1, 10_000),
      memory: size('RINGSIDE_MAX_MEMORY', DEFAULT_LIMITS.memory),
      body: size('RINGSIDE_MAX_BODY', DEFAULT_LIMITS.body),
      capture: size('RINGSIDE_MAX_CAPTURE', DEFAULT_LIMITS.capture),
      runs: count('RINGSIDE_MAX_RUNS', DEFAULT_LIMITS.runs, 1, 100_000),
      streams: count('RINGSIDE_MAX_STREAMS', DEFAULT_LIMITS.streams, 1, 100_000),
      socketBuffer: size('RINGSIDE_MAX_SOCKET_BUFFER', DEFAULT_LIMITS.socketBuffer),
      memoryRead: size('RINGSIDE_MAX_MEMORY_READ', DEFAULT_LIMITS.memoryRead),
      metricsSeries: count('RINGSIDE_METRICS_MAX_SERIES', DEFAULT_LIMITS.metricsSeries, 1, 100_000_000),
      captures: count('RINGSIDE_MAX_CAPTURES', DEFAULT_LIMITS.captures, 1, 10_000),
      captureDisk: size('RINGSIDE_MAX_CAPTURE_DISK', DEFAULT_LIMITS.captureDisk),
      experiments: count('RINGSIDE_MAX_EXPERIMENTS', DEFAULT_LIMITS.experiments, 1, 10_000),
      experimentRuns: count('RINGSIDE_MAX_EXPERIMENT_RUNS', DEFAULT_LIMITS.experimentRuns, 1, 10_000_000),
    },
  };
  if (settings.token === null && !isLoopback(settings.host) && faults.length === 0) {
    faults.push(
      `HOST is ${settings.host}, which other machines can reach: set RINGSIDE_TOKEN or RINGSIDE_TOKEN_FILE, ` +
        'or leave HOST at 127.0.0.1',
    );
  }
  if (faults.length > 0) throw new SettingsError(faults.join('\n'));
  return settings;
}

/** Whether only this machine can reach a server that listens on `host`. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || name === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

/** The folder `ringside` in the user's data directory. */
export function defaultDataDir(env: Environment, platform: NodeJS.Platform): string {
  const home = homedir();
  if (platform === 'win32') return join(present(env['LOCALAPPDATA']) ?? join(home, 'AppData', 'Local'), 'ringside');
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'ringside');
  return join(present(env['XDG_DATA_HOME']) ?? join(home, '.local', 'share'), 'ringside');
}

function present(value: string | undefined): string | undefined {
  return value === undefined || value.trim() === '' ? undefined : value.trim();
}

function integer(name: string, text: string | undefined, fallback: number, min: number, max: number): number {
  const value = present(text);
  if (value === undefined) return fallback;
  const n = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
  if (!(n >= min && n <= max))
    throw new SettingsError(`${name} is '${value}': expected a whole number from ${min} to ${max}`);
  return n;
}

/** Told without its text: it may hold a password. */
function queueUrl(text: string | undefined): string | null {
  const value = present(text);
  if (value === undefined) return null;
  try {
    natsAddress(value);
    return value;
  } catch (error) {
    throw new SettingsError(
      `RINGSIDE_NATS_URL cannot be used: ${error instanceof Error ? error.message : 'no address'}`,
    );
  }
}

/** What stands before the names of streams, which have no dots and spaces. */
function queuePrefix(text: string | undefined): string {
  const value = present(text) ?? 'ringside';
  if (!/^[A-Za-z0-9_-]{1,32}$/.test(value))
    throw new SettingsError(`RINGSIDE_NATS_PREFIX is '${value}': expected 1 to 32 letters, digits, - and _`);
  return value;
}

/** An IP address: names would be looked up again and again. */
function address(name: string, text: string | undefined, fallback: string): string {
  const value = present(text) ?? fallback;
  if (isIP(value) === 0)
    throw new SettingsError(`${name} is '${value}': expected an IP address, as 127.0.0.1 or 0.0.0.0`);
  return value;
}

/** A number of bytes: digits, or with a unit, `64MiB`. */
function bytes(name: string, text: string | undefined, fallback: number): number {
  const value = present(text);
  if (value === undefined) return fallback;
  const match = /^(\d{1,12})(KiB|MiB|GiB)?$/.exec(value);
  const unit = { KiB: KIB, MiB: MIB, GiB: GIB }[match?.[2] ?? ''] ?? 1;
  const n = match === null ? 0 : Number(match[1]) * unit;
  if (!(n >= 1 && Number.isSafeInteger(n))) {
    throw new SettingsError(`${name} is '${value}': expected a number of bytes, as 1048576 or 64MiB`);
  }
  return n;
}

function readToken(env: Environment): string | null {
  const file = present(env['RINGSIDE_TOKEN_FILE']);
  const direct = present(env['RINGSIDE_TOKEN']);
  if (file !== undefined && direct !== undefined) {
    throw new SettingsError('RINGSIDE_TOKEN and RINGSIDE_TOKEN_FILE are both set: set one of them');
  }
  if (file === undefined) return direct === undefined ? null : checkToken('RINGSIDE_TOKEN', direct);
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    const cause = error instanceof Error ? error.message : String(error);
    throw new SettingsError(`RINGSIDE_TOKEN_FILE cannot be read: ${cause}`);
  }
  return checkToken('RINGSIDE_TOKEN_FILE', text);
}

/** Anything but visible ASCII could not be sent in an Authorization header. */
function checkToken(name: string, token: string): string {
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new SettingsError(`${name} holds no usable token: expected visible ASCII characters`);
  return token;
}
