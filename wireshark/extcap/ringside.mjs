#!/usr/bin/env node
/**
 * Lists the hops of a running Ringside in Wireshark's own interface list, and captures from them. Wireshark starts this
 * program from its extcap folder, in the phases that doc/README.extcap of Wireshark describes. Node 18 or newer; needs
 * nothing else. What it asks is Ringside's API: /v1/topologies, …/points and …/capture.pcapng?follow=true.
 *
 * Environment: RINGSIDE_URL (http://127.0.0.1:8080), RINGSIDE_TOKEN. The list of interfaces knows only these; a capture
 * may be given others in Wireshark's dialog.
 */
import { constants, createWriteStream, openSync } from 'node:fs';
import { request as http } from 'node:http';
import { request as https } from 'node:https';
import { Socket } from 'node:net';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

const VERSION = '1.0';
const HELP = 'https://www.wireshark.org/docs/man-pages/extcap.html';
/** Wireshark waits for the list at its start, so a server that does not answer soon is taken for none. */
const LIST_MS = 1500;
/** Interfaces of one list; a host with more hops than anybody would scroll through is captured as a whole. */
const LIST_MAX = 1000;
const PAGE = 1000;

const HOPS = 'ringside';
const EVENTS = 'ringside-events';
const NO_CAPTURE_FILTERS = 'capture filters are for real interfaces; use the option Filter, or a display filter';
const FILTER_KEYS = ['events', 'places', 'contexts', 'role', 'frame', 'time'];

// ---- command line -----------------------------------------------------------------------------------------------

/** `--name value`, `--name=value` and `--name`; a later one wins. */
function parseArguments(list) {
  const found = new Map();
  for (let i = 0; i < list.length; i++) {
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(list[i]);
    if (match === null) continue;
    const next = list[i + 1];
    if (match[2] !== undefined) found.set(match[1], match[2]);
    else if (next !== undefined && !next.startsWith('--')) found.set(match[1], list[++i]);
    else found.set(match[1], '');
  }
  return found;
}

/** What an interface stands for: `ringside:<topology>`, `ringside:<topology>:<hop>`, `ringside-events:<topology>`. */
function parseInterface(name) {
  const [kind, topology = '', ...rest] = name.split(':');
  if ((kind !== HOPS && kind !== EVENTS) || topology === '') return null;
  return { events: kind === EVENTS, topology, point: rest.join(':') };
}

const text = (value) => String(value).replace(/[{}\r\n]/g, ' ');
/** One sentence of the answer to Wireshark: `word {key=value}{key=value}`. */
function say(word, pairs) {
  const list = Object.entries(pairs).map(([key, value]) => `{${key}=${text(value)}}`);
  process.stdout.write(`${word} ${list.join('')}\n`);
}

class Failure extends Error {}

// ---- the server -------------------------------------------------------------------------------------------------

function serverOf(options) {
  const address = options.get('url') || process.env.RINGSIDE_URL || 'http://127.0.0.1:8080';
  let url;
  try {
    url = new URL(address);
  } catch {
    throw new Failure(`${address} is no address; expected something like http://127.0.0.1:8080`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new Failure(`${address}: expected http or https`);
  return { url, token: options.get('token') || process.env.RINGSIDE_TOKEN || '' };
}

/** Starts a GET; resolves with the response once its head is there. No timeouts of its own: a capture may be silent. */
function get(server, path, signal) {
  const start = server.url.protocol === 'https:' ? https : http;
  const headers = server.token === '' ? {} : { authorization: `Bearer ${server.token}` };
  const url = new URL(server.url.pathname.replace(/\/$/, '') + path, server.url);
  return new Promise((resolve, reject) => {
    const sent = start(url, { headers, signal }, resolve);
    sent.once('error', reject);
    sent.end();
  });
}

async function textOf(response, limit = 16 * 1024 * 1024) {
  const parts = [];
  let length = 0;
  for await (const part of response) {
    length += part.length;
    if (length > limit) throw new Failure('the answer of the server is too long');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** What a problem document says, or the status where there is none. */
async function complaint(response) {
  try {
    const problem = JSON.parse(await textOf(response));
    const details = (problem.errors ?? []).map((fault) => fault.detail).join('; ');
    return details || problem.detail || problem.title || `status ${response.statusCode}`;
  } catch {
    return `status ${response.statusCode}`;
  }
}

/** All items of a list that is answered in pages. */
async function list(server, path, signal) {
  const items = [];
  let cursor = '';
  do {
    const more = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const response = await get(server, `${path}?limit=${PAGE}${more}`, signal);
    if (response.statusCode !== 200) throw new Failure(`${path}: ${await complaint(response)}`);
    const page = JSON.parse(await textOf(response));
    items.push(...page.items);
    cursor = page.next ?? '';
  } while (cursor !== '' && items.length < LIST_MAX);
  return items;
}

// ---- phases -----------------------------------------------------------------------------------------------------

async function listInterfaces(options) {
  say('extcap', { version: VERSION, help: HELP, display: 'Ringside' });
  const server = serverOf(options);
  const signal = AbortSignal.timeout(LIST_MS);
  const topologies = await list(server, '/v1/topologies', signal);
  const points = await Promise.all(
    topologies.map(({ name }) =>
      // One that fails or goes in between has no hops; the others are listed all the same.
      list(server, `/v1/topologies/${encodeURIComponent(name)}/points`, signal).catch(() => null),
    ),
  );
  let left = LIST_MAX;
  const add = (value, display) => {
    if (left-- > 0) say('interface', { value, display });
  };
  topologies.forEach(({ name }, i) => {
    if (points[i] === null) return;
    add(`${HOPS}:${name}`, `Ringside ${name}: all hops`);
    add(`${EVENTS}:${name}`, `Ringside ${name}: events`);
  });
  topologies.forEach(({ name }, i) => {
    for (const point of points[i] ?? []) add(`${HOPS}:${name}:${point.name}`, `Ringside ${name}: ${point.name}`);
  });
}

function listLinkTypes(face) {
  if (face.events) say('dlt', { number: 147, name: 'USER0', display: 'Ringside events' });
  else say('dlt', { number: 1, name: 'EN10MB', display: 'Ethernet' });
}

function listOptions(face) {
  let number = 0;
  const argument = (call, display, more) => {
    say('arg', { number, call: `--${call}`, display, ...more });
    return number++;
  };
  const choice = (call, display, tooltip, values) => {
    const arg = argument(call, display, { type: 'selector', tooltip, group: 'Capture' });
    values.forEach(([value, shown], i) => {
      say('value', { arg, value, display: shown, default: i === 0 });
    });
  };
  const capture = (tooltip, more = {}) => ({ type: 'string', tooltip, required: false, group: 'Capture', ...more });
  argument('url', 'Server', {
    type: 'string',
    default: process.env.RINGSIDE_URL ?? 'http://127.0.0.1:8080',
    tooltip: 'Address of the Ringside server',
    required: false,
    group: 'Server',
  });
  argument('token', 'Token', {
    type: 'password',
    tooltip: 'What the server was started with as RINGSIDE_TOKEN; empty where it has none',
    required: false,
    group: 'Server',
  });
  if (!face.events && face.point === '') {
    choice('view', 'View', 'What becomes a row', [
      ['journey', 'journey: every frame at every hop'],
      ['wire', 'wire: every frame once, as it enters a bridge'],
    ]);
    argument('points', 'Hops', capture('Names or patterns, comma-separated, e.g. a/*,br0/*; empty: all'));
  }
  argument('filter', 'Filter', capture(`Of ${FILTER_KEYS.join(', ')}, e.g. role=dropped&events=dp.*`));
  argument('snaplen', 'Bytes of each frame', { type: 'unsigned', default: 0, range: '0,262144', group: 'Capture' });
  choice('from', 'Begin', 'Where the capture begins', [
    ['now', 'with what comes'],
    ['start', 'with what the recorder still holds'],
  ]);
  choice('slow', 'When Wireshark is slow', 'What gives where the host records faster than Wireshark takes', [
    ['drop', 'rows are lost, and counted'],
    ['block', 'virtual time waits'],
  ]);
}

/** The query of the capture that an interface and its options ask for. */
function queryOf(face, options) {
  const query = new URLSearchParams({ follow: 'true' });
  const single = face.point !== '';
  query.set('view', face.events ? 'events' : single ? 'journey' : options.get('view') || 'journey');
  const points = single ? face.point : face.events ? '' : (options.get('points') ?? '');
  if (points !== '') query.set('points', points);
  for (const name of ['from', 'slow']) if (options.get(name)) query.set(name, options.get(name));
  const snaplen = options.get('snaplen') ?? '';
  if (snaplen !== '' && snaplen !== '0') query.set('snaplen', snaplen);
  for (const [key, value] of new URLSearchParams(options.get('filter') ?? '')) {
    if (!FILTER_KEYS.includes(key)) throw new Failure(`filter: there is no ${key}; expected ${FILTER_KEYS.join(', ')}`);
    query.set(key, value);
  }
  return query;
}

/**
 * The writing end of Wireshark's pipe. Opened without waiting: an open() that waits for a reader cannot be given up, and a
 * capture that nobody reads has to end when it is told to. Throws when `signal` comes first.
 */
async function openPipe(path, signal) {
  if (process.platform === 'win32') return createWriteStream(path);
  for (;;) {
    try {
      const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      return new Socket({ fd, readable: false, writable: true });
    } catch (error) {
      // ENXIO: nobody reads yet.
      if (error.code !== 'ENXIO') throw new Failure(`${path}: ${error.code}`);
      await sleep(20, undefined, { signal });
    }
  }
}

/** Streams until Wireshark stops reading, sends a signal, or the server ends the capture. */
async function capture(face, options) {
  const fifo = options.get('fifo') ?? '';
  if (fifo === '') throw new Failure('--capture needs --fifo');
  if ((options.get('extcap-capture-filter') ?? '') !== '') throw new Failure(NO_CAPTURE_FILTERS);
  const server = serverOf(options);
  const path = `/v1/topologies/${encodeURIComponent(face.topology)}/capture.pcapng?${queryOf(face, options)}`;
  const stop = new AbortController();
  const end = () => stop.abort();
  process.on('SIGTERM', end).on('SIGINT', end);
  try {
    const response = await get(server, path, stop.signal);
    if (response.statusCode !== 200) throw new Failure(await complaint(response));
    await pour(response, await openPipe(fifo, stop.signal));
  } catch (error) {
    // The other side of the pipe went, or we were told to: both are how a capture ends.
    if (stop.signal.aborted || error.code === 'EPIPE') return;
    throw error instanceof Failure ? error : new Failure(`${server.url.origin}: ${error.code ?? error.message}`);
  } finally {
    // Else the request would keep this process alive.
    end();
  }
}

function pour(response, out) {
  return new Promise((resolve, reject) => {
    response.once('error', reject);
    out.once('error', reject);
    out.once('close', resolve);
    response.pipe(out);
  });
}

/** A capture that cannot begin closes the pipe all the same: else tshark 4.0 waits for it, and shows the reason only then. */
async function captureOrSay(face, options) {
  try {
    await capture(face, options);
  } catch (error) {
    const pipe = await openPipe(options.get('fifo') ?? '', AbortSignal.timeout(1000)).catch(() => null);
    pipe?.destroy();
    throw error;
  }
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (options.has('extcap-interfaces')) {
    // No server, or not a Ringside: no interfaces. Wireshark shows a program's complaint at every start.
    await listInterfaces(options).catch((error) => {
      if (process.env.RINGSIDE_EXTCAP_DEBUG) process.stderr.write(`${error.message}\n`);
    });
    return;
  }
  if (options.has('extcap-version') && !options.has('extcap-interface')) {
    say('extcap', { version: VERSION, help: HELP, display: 'Ringside' });
    return;
  }
  const name = options.get('extcap-interface') ?? '';
  const face = parseInterface(name);
  if (face === null) throw new Failure(`there is no interface ${JSON.stringify(name)}; --extcap-interfaces lists them`);
  if (options.has('extcap-dlts')) listLinkTypes(face);
  else if (options.has('extcap-config')) listOptions(face);
  else if (options.has('capture')) await captureOrSay(face, options);
  else if (options.has('extcap-capture-filter')) {
    // Wireshark asks whether it is valid: what is printed is what is wrong with it.
    if (options.get('extcap-capture-filter') !== '') process.stdout.write(`${NO_CAPTURE_FILTERS}\n`);
  } else throw new Failure('nothing to do: expected --extcap-dlts, --extcap-config or --capture');
}

main().catch((error) => {
  process.stderr.write(`ringside: ${error instanceof Failure ? error.message : error.stack}\n`);
  process.exitCode = 1;
});
