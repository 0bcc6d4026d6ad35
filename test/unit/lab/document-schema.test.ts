import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { parseTopology } from '../../../src/lab/document.ts';
import { TopologyDocument } from '../../../src/lab/document-schema.ts';
import { PRESETS } from '../../../src/lab/presets.ts';

interface Node {
  [key: string]: unknown;
}
/** Every schema in the schema, with where it stands. */
function* schemas(schema: Node, path = ''): Generator<[string, Node]> {
  yield [path, schema];
  for (const [name, child] of Object.entries((schema['properties'] ?? {}) as Record<string, Node>))
    yield* schemas(child, `${path}/${name}`);
  if (schema['items'] !== undefined) yield* schemas(schema['items'] as Node, `${path}[]`);
}
const all = [...schemas(TopologyDocument as unknown as Node)];

test('every field is described, every object is closed', () => {
  for (const [path, schema] of all) {
    if (!path.endsWith('[]')) expect(schema['description'], path).toBeTypeOf('string');
    if (schema['type'] === 'object') expect(schema['additionalProperties'], path).not.toBe(undefined);
  }
});
test('only names, hosts and ends have to be written', () => {
  const required = all.flatMap(([path, s]) => ((s['required'] ?? []) as string[]).map((name) => `${path}/${name}`));
  expect(required).toEqual([
    '/hosts',
    '/hosts[]/bridges[]/name',
    '/hosts[]/bridges[]/ports[]/name',
    '/hosts[]/bridges[]/bonds[]/name',
    '/hosts[]/bridges[]/bonds[]/interfaces',
    '/hosts[]/bridges[]/mirrors[]/name',
    '/hosts[]/nics[]/name',
    '/hosts[]/guests[]/name',
    '/hosts[]/guests[]/nics[]/name',
    '/links[]/ends',
  ]);
});
test('a standard validator takes the presets, their complete forms and the example', () => {
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(TopologyDocument);
  const examples = (TopologyDocument as unknown as { examples: object[] }).examples;
  for (const document of [...PRESETS.map((p) => p.document), ...examples]) {
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    const parsed = parseTopology(document, { name: 't' });
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
    expect(validate(parsed.document), JSON.stringify(validate.errors)).toBe(true);
  }
  expect(validate({ hosts: [{ cores: 'many' }] })).toBe(false);
});
