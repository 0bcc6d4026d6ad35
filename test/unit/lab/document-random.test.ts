/** Whatever is thrown at the reader of documents: it answers, points at what is there, and agrees with itself. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { documentOf, equalDocuments, parseDocumentText, parseTopology } from '../../../src/lab/document.ts';
import { closeMatches, type Fault } from '../../../src/lab/document-faults.ts';
import { FEATURES } from '../../../src/lab/document-features.ts';
import { PRESETS } from '../../../src/lab/presets.ts';

const numRuns = 500;

function exists(root: unknown, pointer: string): boolean {
  let value = root;
  for (const token of pointer.split('/').slice(1)) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false;
    value = (value as Record<string, unknown>)[key];
  }
  return true;
}
function check(document: unknown): void {
  const result = parseTopology(document, { name: 't' });
  if (result.ok) {
    const again = parseTopology(result.document, { name: 't' });
    expect(again).toEqual({ ok: true, topology: result.topology, document: documentOf(result.topology) });
    expect(equalDocuments(result.document, documentOf(result.topology))).toBe(true);
    return;
  }
  expect(result.faults.length).toBeGreaterThan(0);
  for (const fault of result.faults) {
    expect(exists(document, fault.pointer), `${fault.pointer} in ${JSON.stringify(document)}`).toBe(true);
    expect(fault.detail).not.toMatch(/undefined|\[object|NaN/);
  }
  const keys = result.faults.map((f: Fault) => `${f.pointer} ${f.code} ${f.detail}`);
  expect(new Set(keys).size, keys.join('\n')).toBe(keys.length);
}

test('any JSON at all', () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), check), { numRuns });
});

// Documents that are nearly right: known fields with values that are right, wrong, or absent.
const junk = fc.oneof(
  fc.jsonValue({ maxDepth: 1 }),
  fc.constantFrom('', '16MB', 'br9', -1, 1.5, 2 ** 40, null, [], {}),
);
function or<T>(good: fc.Arbitrary<T>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 12, arbitrary: good }, { weight: 1, arbitrary: junk });
}
function some(fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<unknown> {
  return or(fc.record(fields, { requiredKeys: [] }));
}
const name = or(fc.constantFrom('a', 'b', 'c', 'br0', 'br1', 'eth0', 'net0', 'h1'));
const few = <T>(item: fc.Arbitrary<T>): fc.Arbitrary<unknown> => or(fc.array(item, { maxLength: 3 }));
const offloads = some({ txChecksum: or(fc.boolean()), tso: or(fc.boolean()), lro: or(fc.boolean()) });
const nearly = some({
  name: or(fc.constant('t')),
  seed: or(fc.nat()),
  epoch: or(fc.constant('2026-01-01T00:00:00Z')),
  clock: some({ mode: or(fc.constantFrom('work', 'real')), factor: or(fc.constantFrom(1, 0.1)) }),
  recorder: some({
    events: or(fc.constantFrom(4096, 8192)),
    bytes: or(fc.constantFrom('1MiB', 65536)),
    descriptors: or(fc.boolean()),
  }),
  costs: or(fc.dictionary(fc.string(), fc.nat())),
  hosts: few(
    some({
      name: or(fc.constantFrom('h1', 'h2', 'h3')),
      cores: or(fc.constantFrom(1, 4, 16)),
      bridges: few(
        some({
          name,
          datapath: or(fc.constantFrom('system', 'netdev')),
          userspaceTso: or(fc.boolean()),
          pmds: or(fc.constantFrom(1, 3)),
        }),
      ),
      nics: few(some({ name, speed: or(fc.constantFrom('1Gbps', '25Gbps')), bridge: name, offloads })),
      guests: few(
        some({
          name,
          memory: or(fc.constantFrom('16MiB', '1MiB', 2 ** 24)),
          app: or(fc.constantFrom('stack', 'io', 'macswap')),
          nics: few(
            some({
              name,
              bridge: name,
              backend: or(fc.constantFrom('virtio-net', 'vhost-net', 'vhost-user')),
              driver: or(fc.constantFrom('virtio-net', 'virtio-pmd', 'none')),
              mac: or(fc.constantFrom('52:54:00:00:00:01', '52:54:00:00:00:02')),
              addresses: few(or(fc.constantFrom('10.0.0.1/24', '10.0.0.2/24', 'fd00::1/64', 'FD00::2:0:0:1/64'))),
              queueSize: or(fc.constantFrom(1, 32, 100, 256, 1024)),
              queuePairs: or(fc.constantFrom(1, 2, 16)),
              packed: or(fc.boolean()),
              transport: or(fc.constantFrom('pci-modern', 'pci-transitional', 'pci-legacy', 'mmio')),
              vectors: or(fc.constantFrom(0, 3, 4, 6)),
              mtu: or(fc.constantFrom(68, 1500, 9000)),
              speed: or(fc.constantFrom(0, 10_000)),
              duplex: or(fc.constantFrom('half', 'full')),
              ioeventfd: or(fc.boolean()),
              vhostUser: some({
                mode: or(fc.constantFrom('server', 'client')),
                reconnectMs: or(fc.nat(5000)),
                inflight: or(fc.boolean()),
              }),
              coalescing: some({
                rx: some({ usecs: or(fc.nat(50)), packets: or(fc.nat(50)) }),
                tx: or(fc.constant({})),
              }),
              features: or(fc.dictionary(fc.constantFrom(...FEATURES), or(fc.boolean()), { maxKeys: 4 })),
            }),
          ),
        }),
      ),
    }),
  ),
  links: few(
    some({
      name,
      ends: few(or(fc.constantFrom('h1/eth0', 'h2/eth0', 'h1/a', 'eth0'))),
      latency: or(fc.constantFrom('0ns', '1ms')),
      loss: or(fc.constantFrom(0, 0.5)),
    }),
  ),
});
test('documents that are nearly right', () => {
  fc.assert(fc.property(nearly, check), { numRuns });
});

test('one NIC with any fields', () => {
  let right = 0;
  const features = fc.dictionary(fc.constantFrom(...FEATURES), fc.boolean(), { maxKeys: 3 });
  const nic = fc.record(
    {
      driver: fc.constantFrom('virtio-net', 'virtio-pmd', 'none'),
      queueSize: fc.constantFrom(32, 100, 256),
      queuePairs: fc.constantFrom(1, 2, 16),
      packed: fc.boolean(),
      transport: fc.constantFrom('pci-modern', 'pci-transitional', 'pci-legacy', 'mmio'),
      vectors: fc.constantFrom(0, 3, 4, 6),
      mtu: fc.constantFrom(68, 1500, 9000),
      speed: fc.constantFrom(0, 10_000),
      duplex: fc.constantFrom('half', 'full'),
      features,
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(nic, (fields) => {
      const document = { hosts: [{ guests: [{ name: 'a', nics: [{ name: 'net0', ...fields }] }] }] };
      check(document);
      if (parseTopology(document, { name: 't' }).ok) right++;
    }),
    { numRuns },
  );
  expect(right).toBeGreaterThan(numRuns / 10);
});

// A preset with one value changed: most of the checks are met in a document that is otherwise right.
function places(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, child]) => places(child, [...path, key]))];
}
test('a preset with one value replaced', () => {
  const preset = fc.constantFrom(...PRESETS.map((p) => p.document));
  fc.assert(
    fc.property(preset, fc.nat(), junk, (document, at, value) => {
      const copy = { root: structuredClone(document) as unknown };
      const paths = places(copy.root);
      const path = ['root', ...(paths[at % paths.length] ?? [])];
      let parent = copy as Record<string, unknown>;
      for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>;
      parent[path.at(-1) ?? ''] = value;
      check(copy.root);
    }),
    { numRuns },
  );
});

test('JSON text: what JSON.parse takes is taken, and what it refuses has a place', () => {
  const text = fc.oneof(
    fc.json(),
    fc.json().chain((json) => fc.nat(json.length).map((n) => json.slice(0, n))),
    fc
      .tuple(fc.json(), fc.nat(), fc.constantFrom('"', '{', ']', ',', ':', '\\', '\n', '0', '-', 'e'))
      .map(([json, n, c]) => {
        const at = n % (json.length + 1);
        return json.slice(0, at) + c + json.slice(at + 1);
      }),
  );
  fc.assert(
    fc.property(text, (json) => {
      let expected: unknown;
      let good = true;
      try {
        expected = JSON.parse(json);
      } catch {
        good = false;
      }
      const result = parseDocumentText(json, 'json');
      expect(result.ok).toBe(good);
      if (result.ok) {
        expect(result.document).toEqual(expected);
        return;
      }
      const [fault] = result.faults;
      const offset =
        json
          .split('\n')
          .slice(0, (fault?.line ?? 0) - 1)
          .join('\n').length + (fault?.line === 1 ? 0 : 1);
      const at = offset + (fault?.column ?? 0) - 1;
      expect(at).toBeGreaterThanOrEqual(0);
      expect(at).toBeLessThanOrEqual(json.length);
    }),
    { numRuns: 2 * numRuns },
  );
});
test('any text as YAML', () => {
  const line = fc.constantFrom(
    'a: 1',
    '- b',
    '  c: [1, 2',
    ']',
    '&x',
    '*x',
    '? k',
    '|',
    '"',
    "'",
    '{',
    '}',
    '!!t',
    '---',
    '#',
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(line).map((lines) => lines.join('\n')),
  );
  fc.assert(
    fc.property(text, (yaml) => {
      const result = parseDocumentText(yaml, 'yaml');
      if (result.ok) check(result.document);
      else for (const fault of result.faults) expect(fault.pointer).toBe('');
    }),
    { numRuns },
  );
});
test('close matches: a word is its own nearest, whatever the words', () => {
  const words = fc.array(fc.string({ minLength: 1, maxLength: 20 }), { minLength: 1 });
  fc.assert(
    fc.property(words, (list) => {
      const near = closeMatches(list[0] ?? '', list);
      expect(near.length).toBeGreaterThan(0);
      expect(near.length).toBeLessThanOrEqual(3);
    }),
    { numRuns },
  );
});
