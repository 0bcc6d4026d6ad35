import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import * as C from '../../../../src/machine/guest/net-commands.ts';
import { DPDK_22_11_VIRTIO_PMD_FEATURES } from '../../../../src/machine/guest/probe/virtio-pmd-probe.ts';
import * as F from '../../../../src/machine/virtio/features.ts';
import { NetConfig } from '../../../../src/machine/virtio/net/net-config.ts';
import { drainControl, NetControl } from '../../../../src/machine/virtio/net/net-control.ts';
import { MICROSOFT_RSS_KEY } from '../../../../src/machine/virtio/net/rss.ts';
import { controlCommandName, VIRTIO_NET_ERR } from '../../../../src/machine/wire/virtio-net-ctrl.ts';
import { ALL, ControlRig, MAC, without } from '../virtio/control-rig.ts';
import { AnyRing } from '../virtio/queue/any-ring.ts';
import { BUFFERS } from '../virtio/queue/ring.ts';

interface RecordedStep {
  readonly step: string;
  readonly commands: readonly string[];
  readonly last?: { readonly chain: readonly (readonly [number, 'R' | 'W', string])[]; readonly used_len: number };
}
const file = new URL('../../../vectors/virtio-net/control.json', import.meta.url);
const RECORDED: Readonly<Record<string, readonly RecordedStep[]>> = JSON.parse(readFileSync(file, 'utf8')).cases;

const LINUX = F.featuresFromHex('0x10130afffa7');
const GUEST_CSUM = F.featuresOf(F.VIRTIO_NET_F_GUEST_CSUM);
const ALL_HOSTS = [1, 0, 0x5e, 0, 0, 1];
const state: C.InterfaceState = {
  ...{ mac: [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc], promisc: false, allmulti: false, unicast: [], multicast: [ALL_HOSTS] },
  ...{ queuePairs: 1, maxQueuePairs: 4, offloads: F.featuresFromHex('0x782'), vid: 5 },
};
const NUMBERS = ['RX', 'MAC', 'VLAN', 'ANNOUNCE', 'MQ', 'GUEST_OFFLOADS'];
/** As the recording names them: the length is that of the first segment of data. */
const written = (commands: readonly C.ControlCommand[]): string[] =>
  commands.map((c) => {
    const [class_, cmd] = controlCommandName(c.class, c.cmd).split(' ');
    return `${NUMBERS.indexOf(class_!)}:${class_}/${c.cmd}:${cmd} len=${c.data[0]?.length ?? 0}`;
  });
/** What each recorded step is to us; a step that sends nothing has no action. */
function actionOf(step: string): [C.LinuxAction, Partial<C.InterfaceState>, number?] | null {
  if (step === 'link_up' || step === 'link_up_again' || step === 'driver_rebind') return ['link_up', {}];
  if (step === 'promisc_on' || step === 'promisc_off') return ['promisc', { promisc: step === 'promisc_on' }];
  if (step === 'allmulti_on' || step === 'allmulti_off') return ['allmulti', { allmulti: step === 'allmulti_on' }];
  if (step === 'offload_gro_hw_off') return ['offloads', { offloads: GUEST_CSUM }];
  if (step === 'offload_gro_hw_on') return ['offloads', {}];
  if (step === 'set_channels_2') return ['channels', { queuePairs: 2 }];
  if (step === 'set_channels_1') return ['channels', { queuePairs: 1 }];
  if (step === 'qmp_announce_self') return ['announce', {}, 2]; // QEMU announced twice in that time
  if (step === 'pci_remove') return ['unbind', {}];
  return step in C.LINUX_SEQUENCES ? [step as C.LinuxAction, {}] : null;
}

describe('commands of Linux 6.1', () => {
  for (const [name, steps] of Object.entries(RECORDED)) {
    const accepted =
      name === 'mq4' || name === 'rss_hash' ? F.orFeatures(LINUX, F.featuresOf(F.VIRTIO_NET_F_MQ)) : LINUX;
    for (const { step, commands, last } of steps) {
      // the legacy case's unbind was done with the interface down: nothing had to be removed
      if (name === 'transitional_legacy_only' && step === 'unbind') continue;
      it(`${name}: ${step}`, () => {
        const [action, change, times = 1] = actionOf(step) ?? [null, {}];
        if (action === null) return assert.deepEqual(commands, []);
        const once = C.linuxCommands(action, { ...state, ...change }, accepted);
        const sent = Array.from({ length: times }, () => once).flat();
        assert.deepEqual(written(sent), commands);
        if (last === undefined) return;
        // the bytes that lay in the ring, segment by segment
        const page = new C.ControlBuffer(new Uint8Array(4096), 0, 0x1000, 4096);
        const u8 = new Uint8Array(0x3000);
        const buffer = new C.ControlBuffer(u8, 0x1000, 0x1000, 4096);
        assert.ok(page.lay(sent.at(-1)!) && buffer.lay(sent.at(-1)!));
        const segments = Array.from({ length: buffer.readable + buffer.writable }, (_, i) => {
          const at = buffer.gpas[i]!;
          const hex = Buffer.from(u8.subarray(at, at + buffer.lengths[i]!)).toString('hex');
          // recorded after the device had answered
          return [buffer.lengths[i]!, i < buffer.readable ? 'R' : 'W', i < buffer.readable ? hex : '00'];
        });
        assert.deepEqual(segments, last.chain);
      });
    }
  }
  it('none of a feature that was not accepted {net.ctrl.rx.9} {net.ctrl.mac.5} {net.ctrl.offloads.1}', () => {
    const actions = Object.keys(C.LINUX_SEQUENCES) as C.LinuxAction[];
    const classes = (accepted: F.Features): string =>
      [
        ...new Set(
          actions.flatMap((a) => C.linuxCommands(a, state, accepted)).map((c) => controlCommandName(c.class, c.cmd)),
        ),
      ]
        .sort()
        .join(', ');
    const all =
      'ANNOUNCE ACK, GUEST_OFFLOADS SET, MAC ADDR_SET, MAC TABLE_SET, MQ VQ_PAIRS_SET, RX ALLMULTI, RX PROMISC, VLAN ADD, VLAN DEL';
    assert.equal(classes(ALL), all);
    const strip = (bit: number, ...names: string[]): void =>
      assert.equal(
        classes(without(bit)),
        all
          .split(', ')
          .filter((n) => !names.some((x) => n.startsWith(x)))
          .join(', '),
      );
    strip(F.VIRTIO_NET_F_CTRL_RX, 'RX', 'MAC');
    strip(F.VIRTIO_NET_F_CTRL_MAC_ADDR, 'MAC ADDR');
    strip(F.VIRTIO_NET_F_CTRL_VLAN, 'VLAN');
    strip(F.VIRTIO_NET_F_GUEST_ANNOUNCE, 'ANNOUNCE');
    strip(F.VIRTIO_NET_F_MQ, 'MQ');
    strip(F.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 'GUEST');
    assert.equal(classes(without(F.VIRTIO_NET_F_CTRL_VQ)), '');
    const [offloads] = C.linuxCommands(
      'offloads',
      { ...state, offloads: { lo: 0x782, hi: 0 } },
      without(F.VIRTIO_NET_F_GUEST_UFO),
    );
    assert.deepEqual([...offloads!.data[0]!], [0x82, 0x03, 0, 0, 0, 0, 0, 0], 'no offload that was not negotiated');
  });
  it('neither driver sends the extra receive modes, RSS contexts, or anything of coalescing and statistics {net.ctrl.rx.10} {net.ctrl.coal.2} {net.ctrl.coal.3} {net.ctrl.hash.4} {net.ctrl.hash.5} {net.ctrl.hash.6} {net.ctrl.rss.1} {net.ctrl.rss.11} {net.ctrl.coal.1} {net.ctrl.stats.6} {net.ctrl.stats.7}', () => {
    const actions = Object.keys(C.LINUX_SEQUENCES) as C.LinuxAction[];
    const sent = [
      ...actions.flatMap((a) => C.linuxCommands(a, state, ALL)),
      ...C.dpdkStartCommands({ ...state, queuePairs: 2 }, ALL),
    ];
    for (const c of sent) {
      assert.ok(c.class <= 5, controlCommandName(c.class, c.cmd));
      if (c.class === 0) assert.ok(c.cmd <= 1);
      if (c.class === 4) assert.equal(c.cmd, 0);
    }
  });
  it('groups are joined one by one when the link goes up; each list has its count, empty or not {net.ctrl.mac.7}', () => {
    const multicast = [ALL_HOSTS, [0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, 0, 0, 1]];
    const tables = C.linuxCommands('link_up', { ...state, multicast }, LINUX).filter((c) => c.class === 1);
    assert.deepEqual(
      tables.map((c) => c.data[1]!.length),
      [4, 10, 16, 22],
    );
    for (const c of tables) {
      assert.equal(c.data.length, 2);
      assert.deepEqual([...c.data[0]!], [0, 0, 0, 0]);
      assert.equal(c.data[1]!.length, 4 + 6 * c.data[1]![0]!);
    }
    const [table] = C.linuxCommands('group', { ...state, unicast: [MAC] }, LINUX).slice(2);
    assert.deepEqual([...table!.data[0]!], [1, 0, 0, 0, ...MAC]);
  });
  it('answers to an announcement and sets its address where it differs {net.ctrl.announce.2} {net.ctrl.mac.6}', () => {
    assert.deepEqual(written(C.linuxCommands('announce', state, LINUX)), ['3:ANNOUNCE/0:ACK len=0']);
    const [set] = C.linuxCommands('mac_change', state, LINUX);
    assert.deepEqual([...set!.data[0]!], state.mac);
  });
});

describe('what somebody asks of Linux', () => {
  it('0 pairs, or more than the device has, are not asked for {net.ctrl.mq.2}', () => {
    for (const queuePairs of [0, 5, 0x8001]) {
      assert.deepEqual(C.linuxCommands('channels', { ...state, queuePairs }, ALL), []);
      assert.ok(!C.dpdkStartCommands({ ...state, queuePairs }, ALL).some((c) => c.class === 4));
    }
    assert.equal(C.linuxCommands('channels', { ...state, queuePairs: 4 }, ALL).length, 1);
  });
  it('RSS: queues in use, a power of two of entries within the device’s, types that it has; the device takes it {net.ctrl.rss.2} {net.ctrl.rss.3} {net.ctrl.rss.4} {net.ctrl.rss.5}', () => {
    const types = fc.nat(0x1ff);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16 }),
        fc.integer({ min: 1, max: 300 }),
        types,
        types,
        (pairs, table, supported, asked) => {
          const limits = {
            rss_max_key_size: 40,
            rss_max_indirection_table_length: table,
            supported_hash_types: supported,
          };
          const c = C.linuxRss(limits, pairs, MICROSOFT_RSS_KEY, asked);
          assert.ok(c.table.every((queue) => queue < pairs) && c.unclassifiedQueue < pairs);
          assert.equal(c.table.length & (c.table.length - 1), 0);
          assert.ok(c.table.length <= table);
          assert.equal(c.hashTypes & ~supported, 0);
          if (table > 128) return;
          const rig = new ControlRig(ALL, 16);
          assert.equal(rig.run(C.rssConfig(c)), 0);
          assert.deepEqual(rig.control.rss.state().table, c.table);
        },
      ),
      { verbose: 1 },
    );
  });
  it('speed and duplex beyond what there can be are unknown {net.config.25}', () => {
    assert.deepEqual(C.linkSettings(10000, 1), { speed: 10000, duplex: 'full' });
    assert.deepEqual(C.linkSettings(0x7fff_ffff, 0), { speed: 0x7fff_ffff, duplex: 'half' });
    assert.deepEqual(C.linkSettings(0x8000_0000, 2), { speed: null, duplex: null });
    assert.deepEqual(C.linkSettings(0xffff_ffff, 0xff), { speed: null, duplex: null });
  });
});

describe('commands of DPDK 22.11', () => {
  it('when a port is started', () => {
    const names = (pairs: number, accepted: F.Features): string[] =>
      C.dpdkStartCommands({ ...state, queuePairs: pairs }, accepted).map((c) => controlCommandName(c.class, c.cmd));
    const accepted = DPDK_22_11_VIRTIO_PMD_FEATURES;
    assert.deepEqual(names(1, accepted), ['MAC ADDR_SET', 'RX PROMISC', 'RX ALLMULTI']);
    assert.deepEqual(names(2, accepted), ['MQ VQ_PAIRS_SET', 'MAC ADDR_SET', 'RX PROMISC', 'RX ALLMULTI']);
    assert.deepEqual(names(2, F.NO_FEATURES), []);
  });
});

describe('through a ring', () => {
  const everything = [
    C.rxMode(0, false),
    C.macTableSet([[2, 0, 0, 0, 0, 9]], [ALL_HOSTS]),
    C.macAddrSet(state.mac),
    C.vlanAdd(7),
    C.vqPairsSet(2),
    C.rssConfig({ hashTypes: 0x3f, table: [0, 1], unclassifiedQueue: 0, queuePairs: 2, key: MICROSOFT_RSS_KEY }),
    C.hashConfig(0x3f, MICROSOFT_RSS_KEY),
    C.guestOffloadsSet(GUEST_CSUM),
    C.coalSet(0, 10, 10),
    C.coalVqSet(1, 20, 30),
    C.coalVqGet(1),
    C.hashTunnelSet(0),
    C.statsQuery(),
    C.statsGet([{ queue: 0, low: 1, high: 0 }], 56),
  ];
  for (const packed of [false, true]) {
    for (const indirect of [false, true]) {
      it(`every command is answered with one used buffer: ${packed ? 'packed' : 'split'}${indirect ? ', indirect' : ''}`, () => {
        const ring = new AnyRing({ packed, indirect, size: 8 });
        const u8 = ring.arena.u8;
        const control = new NetControl({ config: new NetConfig(MAC, { offered: ALL, queuePairs: 4 }) });
        control.setFeatures(ALL);
        const page = new C.ControlBuffer(u8, BUFFERS + ring.ram, BUFFERS, 4096);
        for (const c of everything) {
          assert.ok(page.lay(c));
          const head = ring.driver.addChain(page.gpas, page.lengths, page.readable, page.writable, 0);
          ring.driver.publish();
          assert.equal(page.ok, false, 'no answer yet');
          const seen: number[][] = [];
          const taken = drainControl(ring.device, control, u8, (d, chain, n) =>
            seen.push([d.class, d.cmd, d.ack, chain, n]),
          );
          const name = controlCommandName(c.class, c.cmd);
          assert.deepEqual([taken, seen.length, seen[0]!.slice(0, 3)], [1, 1, [c.class, c.cmd, 0]], name);
          assert.equal(ring.driver.usedReady(), 1);
          assert.equal(ring.driver.takeUsed(), head);
          assert.equal(ring.driver.usedLength, 1 + c.resultBytes, name);
          assert.ok(page.ok, name);
          assert.equal(page.result(c.resultBytes).length, c.resultBytes);
        }
        assert.deepEqual([...control.filter.mac], state.mac);
        assert.equal(control.queuePairs, 2);
      });
    }
    it(`bad chains go back with length 0, and no call takes more than its budget: ${packed ? 'packed' : 'split'}`, () => {
      const ring = new AnyRing({ packed, size: 8, indirect: false });
      const control = new NetControl({ config: new NetConfig(MAC) });
      control.setFeatures(ALL);
      const u8 = ring.arena.u8;
      const page = new C.ControlBuffer(u8, BUFFERS + ring.ram, BUFFERS, 4096);
      page.lay(C.announceAck());
      for (const gpa of [BUFFERS, 0x7fff_0000]) {
        page.gpas[0] = gpa;
        ring.driver.addChain(page.gpas, page.lengths, page.readable, page.writable, 0);
        ring.driver.addChain(page.gpas, page.lengths, 1, 0, 0);
      }
      ring.driver.publish();
      const seen: number[] = [];
      const drain = (): number => drainControl(ring.device, control, u8, (_, __, n) => seen.push(n), 3);
      assert.deepEqual([drain(), drain(), drain()], [3, 1, 0]);
      assert.deepEqual(seen, [1, 0], 'the two whose addresses are not the guest’s were not executed');
      const lengths: number[] = [];
      while (ring.driver.usedReady() > 0) {
        assert.ok(ring.driver.takeUsed() >= 0);
        lengths.push(ring.driver.usedLength);
      }
      assert.deepEqual(lengths, [1, 0, 0, 0]);
    });
  }
  it('a result of an error means nothing, and a command that does not fit is not laid {net.ctrl.coal.4}', () => {
    const u8 = new Uint8Array(256);
    const page = new C.ControlBuffer(u8, 0, 0, 64);
    assert.ok(page.lay(C.coalVqGet(1)));
    u8.fill(7, 16);
    assert.deepEqual([u8[2], page.result(8).length], [VIRTIO_NET_ERR, 0]);
    u8[2] = 0;
    assert.deepEqual([...page.result(8)], [7, 7, 7, 7, 7, 7, 7, 7]);
    assert.equal(page.lay(C.statsGet([], 100)), false);
  });
});
