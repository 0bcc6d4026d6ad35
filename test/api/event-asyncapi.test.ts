/** The AsyncAPI document: up to date, valid by the project's own schema, served, and its examples are valid messages. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Ajv } from 'ajv';
import { afterEach, test } from 'vitest';
import { asyncapiText } from '../../src/server/events/event-asyncapi.ts';
import { CLIENT_MESSAGES, SERVER_MESSAGES } from '../../src/server/schemas/event.ts';
import { closeServers, startServer } from './client.ts';

afterEach(closeServers);

interface Message {
  readonly name: string;
  readonly payload: { readonly $ref?: string };
  readonly examples?: readonly { readonly payload: unknown }[];
}
interface Document {
  readonly channels: { readonly events: { readonly address: string; readonly messages: Record<string, unknown> } };
  readonly operations: Record<string, { readonly messages: readonly { readonly $ref: string }[] }>;
  readonly components: { readonly messages: Record<string, Message>; readonly schemas: Record<string, object> };
}
const committed = readFileSync(new URL('../../asyncapi/asyncapi.json', import.meta.url), 'utf8');
const document = JSON.parse(committed) as Document;

/** What a JSON pointer of the document leads to. */
function resolve(pointer: string): unknown {
  let at: unknown = document;
  for (const part of pointer.slice(2).split('/')) at = (at as Record<string, unknown>)[part];
  return at;
}
function references(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  const own = (value as { $ref?: unknown }).$ref;
  return [...(typeof own === 'string' ? [own] : []), ...Object.values(value).flatMap(references)];
}

test('asyncapi/asyncapi.json is what `npm run asyncapi` writes, and what is served', async () => {
  assert.ok(asyncapiText() === committed, 'asyncapi/asyncapi.json is out of date: run `npm run asyncapi`');
  const server = await startServer();
  assert.deepEqual((await server.get('/asyncapi.json')).body, document);
  assert.ok((await server.get('/openapi.json')).body.paths[document.channels.events.address.replace(/:/g, '')]);
});

test('it is a valid AsyncAPI 3.0 document', () => {
  const schema = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0.json') as object;
  // It brings the meta schema of draft 7 along.
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, meta: false, validateSchema: false });
  const validate = ajv.compile(schema);
  validate(document);
  assert.deepEqual(validate.errors ?? [], []);
  // The check itself can fail.
  assert.equal(validate({ ...document, channels: { events: { adress: '/' } } }), false);
});

test('every reference leads somewhere, every message is in the channel and in an operation', () => {
  for (const reference of references(document)) assert.ok(resolve(reference), reference);
  const messages = Object.keys(document.components.messages);
  assert.deepEqual(Object.keys(document.channels.events.messages).sort(), [...messages].sort());
  const used = new Set(references(document.operations).map((reference) => reference.split('/').at(-1)));
  assert.deepEqual(
    messages.filter((name) => !used.has(name)),
    [],
  );
  assert.equal(messages.length, SERVER_MESSAGES.length + CLIENT_MESSAGES.length + 1);
});

test('its examples are valid messages', () => {
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema(document, 'asyncapi.json');
  let checked = 0;
  for (const [name, { payload, examples = [] }] of Object.entries(document.components.messages)) {
    if (payload.$ref === undefined) continue;
    const validate = ajv.compile({ $ref: `asyncapi.json${payload.$ref}` });
    for (const example of examples) {
      assert.ok(validate(example.payload), `${name}: ${JSON.stringify(validate.errors)}`);
      checked++;
    }
  }
  assert.equal(checked, SERVER_MESSAGES.length + CLIENT_MESSAGES.length);
});

test('the messages that docs/events.md shows are valid', () => {
  const text = readFileSync(new URL('../../docs/events.md', import.meta.url), 'utf8');
  const shown = [...text.matchAll(/\{"type":"[^`\n]*\}/g)].map((match) => JSON.parse(match[0]) as { type: string });
  assert.deepEqual(
    new Set(shown.map(({ type }) => type)),
    new Set(['gap', 'subscribe', 'unsubscribe', 'credit', 'ping']),
  );
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema(document, 'asyncapi.json');
  for (const example of shown) {
    const message = Object.values(document.components.messages).find(({ name }) => name === example.type);
    const validate = ajv.compile({ $ref: `asyncapi.json${message?.payload.$ref}` });
    assert.ok(validate(example), `${JSON.stringify(example)}: ${JSON.stringify(validate.errors)}`);
  }
});
