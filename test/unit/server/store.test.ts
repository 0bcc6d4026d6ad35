/** What the server keeps of topologies. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { TopologyStore } from '../../../src/server/store.ts';

test('what clients have made of databases is gone with the document that is replaced, and with it alone', () => {
  const store = new TopologyStore(null);
  const rows = { h1: { Bridge: { 'a-uuid': { name: 'br0' } } } };
  for (const name of ['one', 'two']) {
    store.put(name, '{}');
    store.putDatabase(name, 'h1', rows.h1);
  }
  assert.deepEqual(store.databases('one'), rows);
  store.put('one', '{"seed":1}');
  assert.deepEqual(store.databases('one'), {});
  assert.deepEqual(store.databases('two'), rows);
  store.delete('two');
  assert.deepEqual(store.databases('two'), {});
  store.close();
});
