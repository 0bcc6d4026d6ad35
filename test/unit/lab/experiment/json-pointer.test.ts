/** Pointers with `*`: where a value is put, and where it is not. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { setAt, valueAt } from '../../../../src/lab/experiment/json-pointer.ts';

const document = () => ({
  hosts: [{ guests: [{ name: 'a' }, { name: 'b', nics: [{ backend: 'x' }] }] }],
  'a/b': { '~': 1 },
});

test('a value is set at every place', () => {
  const root = document();
  assert.deepEqual(setAt(root, '/hosts/*/guests/*/vcpus', 2), {
    places: ['/hosts/0/guests/0/vcpus', '/hosts/0/guests/1/vcpus'],
  });
  assert.deepEqual(root.hosts[0]!.guests[0], { name: 'a', vcpus: 2 });
  assert.deepEqual(setAt(root, '/a~1b/~0', 5), { places: ['/a~1b/~0'] });
  assert.deepEqual(valueAt(root, '/a~1b/~0'), { ok: true, value: 5 });
});

test('objects on the way are made, null removes, places share nothing', () => {
  const root = document();
  const value = { rx: 1 };
  setAt(root, '/hosts/0/guests/*/dpdk/pool', value);
  value.rx = 2;
  assert.deepEqual(valueAt(root, '/hosts/0/guests/0/dpdk'), { ok: true, value: { pool: { rx: 1 } } });
  setAt(root, '/hosts/0/guests/0/dpdk/pool/rx', 3);
  assert.deepEqual(valueAt(root, '/hosts/0/guests/1/dpdk/pool/rx'), { ok: true, value: 1 });
  setAt(root, '/hosts/0/guests/0/name', null);
  assert.equal(Object.hasOwn(root.hosts[0]!.guests[0]!, 'name'), false);
});

test('what leads nowhere is told', () => {
  for (const [pointer, told] of [
    ['/hosts/1/name', /the list has 1/],
    ['/hosts/-/name', /not an item/],
    ['/hosts/0/guests/0/name/x', /neither a list nor an object/],
    ['/hosts/0/guests/0/nothing/*/x', /no item for \*/],
    ['/hosts/0/guests/0/name/*', /has no items/],
    ['/__proto__/polluted', /leads nowhere/],
  ] as const) {
    const set = setAt(document(), pointer, 1);
    assert.match('problem' in set ? set.problem : 'it was set', told, pointer);
  }
  assert.equal(({} as { polluted?: number }).polluted, undefined);
});

test('what a star multiplies has a bound', () => {
  const room = { left: 1000 };
  const root = { list: Array.from({ length: 10 }, () => ({})) };
  assert.ok('places' in setAt(root, '/list/*/x', 1, room));
  assert.ok(room.left < 400, String(room.left));
  const told = setAt(root, '/list/*/y', 'y'.repeat(100), room);
  assert.match('problem' in told ? told.problem : '', /^\/list\/\d has too many places/);
  assert.equal(Object.hasOwn(root.list[9]!, 'y'), false);
});
