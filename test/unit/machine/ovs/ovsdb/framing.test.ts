/** JSON texts out of streams that are cut anywhere, and streams that are none. */
import { expect, test } from 'vitest';
import type { Json } from '../../../../../src/machine/ovs/ovsdb/json.ts';
import { BadJson, JsonStream, MAX_BYTES, MAX_DEPTH } from '../../../../../src/machine/ovs/ovsdb/rpc/framing.ts';

const ENCODER = new TextEncoder();
function texts(...pieces: (string | Uint8Array)[]): Json[] {
  const stream = new JsonStream();
  const found: Json[] = [];
  for (const piece of pieces) {
    stream.feed(typeof piece === 'string' ? ENCODER.encode(piece) : piece, (json) => {
      found.push(json);
      return true;
    });
  }
  return found;
}

test('texts back to back, with white space, cut at every byte', () => {
  const bytes = ENCODER.encode(' \n{"a":"}]\\"\\\\","ü":[1,-2.5e3,true,null]}[]{"x":{"y":[{}]}}\t');
  const expected = [{ a: '}]"\\', ü: [1, -2500, true, null] }, [], { x: { y: [{}] } }];
  expect(texts(bytes)).toEqual(expected);
  for (let i = 1; i < bytes.length; i++) expect(texts(bytes.subarray(0, i), bytes.subarray(i))).toEqual(expected);
  expect(texts(...[...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(expected);
});

test('a reader that has had enough is given no more', () => {
  const found: Json[] = [];
  new JsonStream().feed(ENCODER.encode('[1][2][3]'), (json) => {
    found.push(json);
    return found.length < 2;
  });
  expect(found).toEqual([[1], [2]]);
});

test.each([
  ['no object and no array', '5'],
  ['brackets that do not match', '{"a":[}'],
  ['a closing bracket', ']'],
  ['a character that JSON does not have', '{"a":?'],
  ['a control character in a string', '["a\u0001'],
  ['numbers without form', '[1-]'],
  ['no colon', '{"a" 1}'],
  ['a NUL in a string', '["a\\u0000"]'],
  ['half of a surrogate pair', '["\\ud800"]'],
  ['half of a surrogate pair in a name', '{"\\udc00":1}'],
])('%s ends the stream', (_what, text) => {
  expect(() => texts(text)).toThrow(BadJson);
});

test('escapes that only look like a NUL, and whole surrogate pairs, are taken', () => {
  expect(texts('["\\\\u0000","\\ud83d\\ude00"]')).toEqual([['\\u0000', '😀']]);
});

test('bytes that are no UTF-8 end the stream', () => {
  expect(() => texts(Uint8Array.of(0x5b, 0x22, 0xff, 0x22, 0x5d))).toThrow(BadJson);
});

test('texts are as deep as the real server takes them, and no deeper', () => {
  expect(texts('['.repeat(MAX_DEPTH) + ']'.repeat(MAX_DEPTH))).toHaveLength(1);
  expect(() => texts('['.repeat(MAX_DEPTH + 1))).toThrow(BadJson);
});

test('a text that never ends is not kept for ever', () => {
  const stream = new JsonStream();
  const piece = ENCODER.encode('x'.repeat(1024 * 1024));
  stream.feed(ENCODER.encode('["'), () => true);
  expect(() => {
    for (let i = 0; i <= MAX_BYTES / piece.length; i++) stream.feed(piece, () => true);
  }).toThrow(BadJson);
});
