/**
 * A server for tests and a client whose every answer is checked against openapi/openapi.json: an operation, status or
 * field that the document does not know fails the test that met it.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import type { InjectOptions } from 'fastify';
import { NO_NATS_FILES } from '../../src/fleet/nats-files.ts';
import { buildApp, type Ringside } from '../../src/server/app.ts';
import type { QueueMaker } from '../../src/server/experiments/job-feed.ts';
import { DEFAULT_JOB_HEAP, DEFAULT_LIMITS, type Limits, type Settings } from '../../src/server/settings.ts';

interface Operation {
  readonly responses: Record<string, { content?: Record<string, { schema?: unknown }> }>;
}
interface OpenApi {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, object> };
}
type Json = ReturnType<typeof JSON.parse>;

export const STUB_ENGINE = new URL('./stub-engine.ts', import.meta.url);

const document = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')) as OpenApi;
const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema(document, 'openapi.json');
const validators = new Map<string, ValidateFunction>();

function pointer(...parts: string[]): string {
  return parts.map((part) => `/${encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');
}

/** The operation's path template for a request, literal segments before parameters. */
function templateOf(method: string, path: string): string {
  const fits = Object.keys(document.paths).filter((template) => {
    const pattern = template.replace(/[.]/g, '\\.').replace(/\{[^}]+\}/g, '[^/]+');
    return new RegExp(`^${pattern}$`).test(path) && document.paths[template]?.[method.toLowerCase()] !== undefined;
  });
  const parameters = (template: string): number => template.split('{').length;
  return fits.sort((a, b) => parameters(a) - parameters(b))[0] ?? '';
}

/** Fails where the document does not describe this answer. */
export function checkResponse(method: string, url: string, status: number, type: string, body: string): void {
  const path = url.split('?', 1)[0] ?? '';
  const template = templateOf(method, path);
  const operation = document.paths[template]?.[method.toLowerCase()];
  const media = type.split(';', 1)[0]?.trim() ?? '';
  if (operation === undefined) {
    assert.ok(status >= 400 && status < 500, `${method} ${path} is not in the API document and answered ${status}`);
    check(['components', 'schemas', 'Problem'], JSON.parse(body));
    return;
  }
  const response = operation.responses[String(status)];
  assert.ok(response, `${method} ${template}: the API document has no response ${status}: ${body.slice(0, 400)}`);
  if (status === 204) {
    assert.equal(body, '');
    return;
  }
  assert.ok(
    response.content?.[media],
    `${method} ${template} ${status}: the API document has no media type '${media}'`,
  );
  if (/json$/.test(media) && media !== 'application/x-ndjson') {
    check(
      ['paths', template, method.toLowerCase(), 'responses', String(status), 'content', media, 'schema'],
      JSON.parse(body),
    );
  }
}

function check(at: string[], value: unknown): void {
  const ref = `openapi.json#${pointer(...at)}`;
  let validate = validators.get(ref);
  if (validate === undefined) {
    validate = ajv.compile({ $ref: ref });
    validators.set(ref, validate);
  }
  if (!validate(value)) {
    const errors = (validate.errors ?? [])
      .slice(0, 5)
      .map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
    assert.fail(`${at.join(' ')}: ${errors.join('; ')}`);
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Json;
  readonly text: string;
  readonly raw: Buffer;
}
export interface Request {
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  /** Body as it is, with its media type in the headers. */
  readonly payload?: string | Buffer;
}

export class TestServer {
  readonly ringside: Ringside;
  readonly settings: Settings;
  constructor(ringside: Ringside, settings: Settings) {
    this.ringside = ringside;
    this.settings = settings;
  }

  async request(
    method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE',
    url: string,
    options: Request = {},
  ): Promise<Answer> {
    const inject: InjectOptions = { method, url, headers: { host: '127.0.0.1:8080', ...options.headers } };
    if (options.payload !== undefined) inject.payload = options.payload;
    else if (options.body !== undefined) inject.payload = options.body as object;
    const response = await this.ringside.app.inject(inject);
    const type = String(response.headers['content-type'] ?? '');
    checkResponse(method, url, response.statusCode, type, response.payload);
    return {
      status: response.statusCode,
      headers: response.headers as Answer['headers'],
      body:
        /json$/.test(type.split(';', 1)[0] ?? '') && !/ndjson/.test(type)
          ? (JSON.parse(response.payload) as Json)
          : undefined,
      text: response.payload,
      raw: response.rawPayload,
    };
  }
  get(url: string, options?: Request): Promise<Answer> {
    return this.request('GET', url, options);
  }
  put(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return this.request('PUT', url, { body, headers });
  }
  post(url: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return this.request('POST', url, { body, headers });
  }
  patch(url: string, body: unknown): Promise<Answer> {
    return this.request('PATCH', url, { body });
  }
  delete(url: string, headers: Record<string, string> = {}): Promise<Answer> {
    return this.request('DELETE', url, { headers });
  }

  /** Listens on a free port and returns the base address. */
  async listen(): Promise<string> {
    return await this.ringside.app.listen({ host: '127.0.0.1', port: 0 });
  }
}

export interface ServerOptions {
  readonly settings?: Partial<Omit<Settings, 'limits'>>;
  readonly limits?: Partial<Limits>;
  /** The stub by default; null is the real engine. */
  readonly engine?: URL | null;
  readonly silenceMs?: number;
  /** Of experiments' runs; the threads of this machine by default. */
  readonly queue?: QueueMaker;
}

const open = new Set<TestServer>();
const folders = new Set<string>();

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ringside-test-'));
  folders.add(folder);
  return folder;
}

/** A server that `closeServers` ends after the test. */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const settings: Settings = {
    host: '127.0.0.1',
    port: 0,
    dataDir: null,
    ovsHost: '127.0.0.1',
    token: null,
    allowedHosts: [],
    workers: 2,
    jobThreads: 2,
    jobHeap: DEFAULT_JOB_HEAP,
    natsUrl: null,
    natsFiles: NO_NATS_FILES,
    natsPrefix: 'ringside',
    ...options.settings,
    limits: { ...DEFAULT_LIMITS, ...options.limits },
  };
  const engine = options.engine === undefined ? STUB_ENGINE : options.engine;
  const { silenceMs, queue } = options;
  const ringside = await buildApp({
    settings,
    ...(engine === null ? {} : { engine }),
    ...(silenceMs === undefined ? {} : { silenceMs }),
    ...(queue === undefined ? {} : { queue }),
  });
  await ringside.restored;
  const server = new TestServer(ringside, settings);
  open.add(server);
  return server;
}

export async function closeServer(server: TestServer): Promise<void> {
  open.delete(server);
  await server.ringside.close();
}

export async function closeServers(): Promise<void> {
  await Promise.all([...open].map(closeServer));
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  folders.clear();
}

/** A small document of two guests; recorder rings small enough to be overwritten soon. */
export function smallDocument(changes: object = {}): object {
  const nic = (address: string) => [{ name: 'net0', addresses: [address] }];
  return {
    recorder: { events: 8192, bytes: '256KiB' },
    hosts: [
      {
        guests: [
          { name: 'a', nics: nic('10.0.0.1/24') },
          { name: 'b', nics: nic('10.0.0.2/24') },
        ],
      },
    ],
    ...changes,
  };
}
