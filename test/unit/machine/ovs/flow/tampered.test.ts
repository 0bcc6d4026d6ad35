/** FLOW_MODs with bits changed: what Open vSwitch takes we take, what it refuses we refuse with the same error. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'vitest';
import { OfError } from '../../../../../src/machine/ovs/flow/actions.ts';
import { decodeFlowMod } from '../../../../../src/machine/ovs/openflow/wire/flow-mod.ts';
import { decodeRequest } from '../../../../../src/machine/ovs/openflow/wire/messages.ts';
import { fromHex } from './flow-vectors.ts';

const { messages } = JSON.parse(
  readFileSync(new URL('../../../../vectors/openflow/tampered.json', import.meta.url), 'utf8'),
) as { readonly messages: readonly (readonly [string, string | null])[] };

function answer(bytes: Uint8Array): string | null {
  try {
    decodeFlowMod(decodeRequest(bytes), false);
    return null;
  } catch (error) {
    if (!(error instanceof OfError)) throw error;
    return error.errorName;
  }
}

test('FLOW_MODs with bits changed are answered as Open vSwitch answers them', () => {
  assert.ok(messages.length > 300);
  assert.ok(new Set(messages.map(([, error]) => error)).size > 15);
  for (const [hex, error] of messages) assert.equal(answer(fromHex(hex)), error, hex);
});
