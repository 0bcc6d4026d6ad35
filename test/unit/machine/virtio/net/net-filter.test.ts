import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { featuresOf, NO_FEATURES, VIRTIO_NET_F_CTRL_VLAN } from '../../../../../src/machine/virtio/features.ts';
import { NetFilter } from '../../../../../src/machine/virtio/net/net-filter.ts';
import { ethernet } from '../frames.ts';

const OWN = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OTHER = [0x52, 0x54, 0, 0x99, 0x99, 0x99];
const LISTED = [2, 0, 0, 0, 0, 9];
const GROUP = [1, 0, 0x5e, 0, 0, 1];
const ALL_HOSTS_6 = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST = [255, 255, 255, 255, 255, 255];
const payload = new Array<number>(50).fill(0);

function filter(
  set: Partial<Record<'promisc' | 'allmulti' | 'alluni' | 'nomulti' | 'nouni' | 'nobcast', boolean>> = {},
): NetFilter {
  const f = new NetFilter();
  f.reset(OWN);
  f.setFeatures(NO_FEATURES);
  Object.assign(f, { promisc: false, ...set });
  f.macs.set(LISTED, 0);
  f.macs.set(GROUP, 6);
  f.firstMulti = 1;
  f.inUse = 2;
  return f;
}
function passes(f: NetFilter, to: readonly number[], vlan?: number): boolean {
  const frame = ethernet(0x0800, payload, vlan === undefined ? { to } : { to, vlan });
  const memory = new Uint8Array(200).fill(0xff);
  memory.set(frame, 51);
  return f.accepts(memory, 51, frame.length);
}

describe('receive filter', () => {
  it('own address, table and broadcast pass, others do not {net.ctrl.mac.4}', () => {
    const f = filter();
    for (const to of [OWN, LISTED, GROUP, BROADCAST]) assert.ok(passes(f, to), `${to}`);
    for (const to of [OTHER, ALL_HOSTS_6, [2, 0, 0, 0, 0, 8]]) assert.ok(!passes(f, to), `${to}`);
    f.reset(OWN);
    f.promisc = false;
    for (const to of [LISTED, GROUP]) assert.ok(!passes(f, to), 'the table is empty after reset');
  });
  it('promiscuous: everything, whatever the other modes say {net.ctrl.rx.2}', () => {
    const f = filter({ promisc: true, nomulti: true, nouni: true, nobcast: true });
    f.setFeatures(featuresOf(VIRTIO_NET_F_CTRL_VLAN));
    for (const to of [OTHER, ALL_HOSTS_6, BROADCAST]) assert.ok(passes(f, to) && passes(f, to, 5));
  });
  it('all multicast, and none even then {net.ctrl.rx.3} {net.ctrl.rx.6}', () => {
    assert.ok(passes(filter({ allmulti: true }), ALL_HOSTS_6));
    assert.ok(!passes(filter({ allmulti: true }), OTHER));
    const none = filter({ allmulti: true, nomulti: true });
    assert.ok(!passes(none, ALL_HOSTS_6) && !passes(none, GROUP));
    assert.ok(passes(none, BROADCAST), 'broadcast is not affected');
  });
  it('all unicast, and none even then {net.ctrl.rx.5} {net.ctrl.rx.7}', () => {
    assert.ok(passes(filter({ alluni: true }), OTHER));
    assert.ok(!passes(filter({ alluni: true }), ALL_HOSTS_6));
    const none = filter({ alluni: true, nouni: true });
    assert.ok(!passes(none, OTHER) && !passes(none, OWN) && !passes(none, LISTED));
  });
  it('no broadcast, even with all multicast {net.ctrl.rx.8}', () => {
    const f = filter({ allmulti: true, nobcast: true });
    assert.ok(!passes(f, BROADCAST));
    assert.ok(passes(f, GROUP));
  });
  it('a table that overflowed lets all of its kind pass', () => {
    const uni = filter();
    uni.uniOverflow = true;
    assert.ok(passes(uni, OTHER) && !passes(uni, ALL_HOSTS_6));
    const multi = filter();
    multi.multiOverflow = true;
    assert.ok(passes(multi, ALL_HOSTS_6) && !passes(multi, OTHER));
  });
  it('VLANs: all pass while the driver does not filter, then those of the table {net.ctrl.vlan.1} {net.ctrl.vlan.2} {net.ctrl.vlan.3}', () => {
    const f = filter();
    for (const vid of [0, 1, 5, 4095]) assert.ok(passes(f, OWN, vid));
    f.setFeatures(featuresOf(VIRTIO_NET_F_CTRL_VLAN));
    assert.ok(passes(f, OWN), 'untagged');
    for (const vid of [0, 5, 4095]) assert.ok(!passes(f, OWN, vid));
    f.setVlan(5, true);
    f.setVlan(4095, true);
    assert.ok(passes(f, OWN, 5) && passes(f, OWN, 4095) && passes(f, OWN, 0xe005), 'priority bits do not count');
    assert.ok(!passes(f, OTHER, 5), 'the address still has to fit');
    f.setVlan(5, false);
    assert.ok(!passes(f, OWN, 5));
    assert.deepEqual(f.state().vlans, [4095]);
    f.reset(OWN);
    assert.equal(f.state().vlans, null);
  });
  it('without a driver everything passes; a runt only then', () => {
    const f = new NetFilter();
    assert.ok(f.accepts(Uint8Array.of(1, 2, 3), 0, 3));
    assert.ok(!filter().accepts(new Uint8Array(60).fill(0xff), 0, 13));
  });
  it('agrees with the plain rule for random modes and addresses', () => {
    const modes = fc.record({
      allmulti: fc.boolean(),
      alluni: fc.boolean(),
      nomulti: fc.boolean(),
      nouni: fc.boolean(),
      nobcast: fc.boolean(),
    });
    const address = fc.constantFrom(OWN, OTHER, LISTED, GROUP, ALL_HOSTS_6, BROADCAST);
    fc.assert(
      fc.property(modes, address, (m, to) => {
        const kind = to === BROADCAST ? 'b' : to === GROUP || to === ALL_HOSTS_6 ? 'm' : 'u';
        const listed = to === OWN || to === LISTED || to === GROUP;
        const want = { b: !m.nobcast, m: !m.nomulti && (m.allmulti || listed), u: !m.nouni && (m.alluni || listed) }[
          kind
        ];
        assert.equal(passes(filter(m), to), want);
      }),
      { verbose: 1 },
    );
  });
  it('shows its state as plain data', () => {
    const s = filter({ allmulti: true }).state();
    assert.deepEqual([s.mac, s.unicast, s.multicast, s.allmulti, s.promisc], [OWN, [LISTED], [GROUP], true, false]);
  });
});
