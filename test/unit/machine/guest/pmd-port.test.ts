/** What a DPDK program changes of its port, as commands of the control queue. */
import { expect, test } from 'vitest';
import type { ControlCommand } from '../../../../src/machine/guest/net-commands.ts';
import { PmdPort } from '../../../../src/machine/guest/pmd-port.ts';
import {
  featuresOf,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
} from '../../../../src/machine/virtio/features.ts';

const OWN = [0x52, 0x54, 0, 0, 0, 1];
const A = [2, 0, 0, 0, 0, 0xa];
const B = [2, 0, 0, 0, 0, 0xb];
const GROUP = [1, 0, 0x5e, 0, 0, 9];
const ALL = featuresOf(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VLAN);
const texts = (commands: readonly ControlCommand[]): string[] =>
  commands.map((c) => `${c.class}.${c.cmd} ${c.data.map((d) => d.length).join('+')}`);
const answer = (port: PmdPort, commands: readonly ControlCommand[], ok = true): void => {
  for (const c of commands) port.answered(c, ok);
};

test('nothing is sent for what is so already', () => {
  expect(
    new PmdPort(OWN, ALL).change({ promiscuous: true, allmulticast: false, macAddrs: [OWN], vlanFilter: [] }),
  ).toEqual([]);
});
test('a state counts when the device has acknowledged it', () => {
  const port = new PmdPort(OWN, ALL);
  const commands = port.change({ promiscuous: false, allmulticast: true });
  expect(texts(commands)).toEqual(['0.0 1', '0.1 1']);
  expect([port.promiscuous, port.waiting]).toEqual([true, 2]);
  let settled = 0;
  port.settled(() => settled++);
  port.answered(commands[0]!, true);
  expect([port.promiscuous, settled]).toEqual([false, 0]);
  port.answered(commands[1]!, false);
  expect([port.allmulticast, port.failed, settled]).toEqual([false, 1, 1]);
});
test('each address is a command with the whole table: 64 entries when it comes, those in use when it goes', () => {
  const port = new PmdPort(OWN, ALL);
  const added = port.change({ macAddrs: [A, GROUP] });
  // 64 unicast; then 63, and one group
  expect(texts(added)).toEqual(['1.0 388+4', '1.0 382+10']);
  answer(port, added);
  expect(port.addresses).toEqual([A, GROUP]);
  const changed = port.change({ macAddrs: [B, GROUP] });
  expect(texts(changed)).toEqual(['1.0 10+10', '1.0 382+10']);
  answer(port, changed);
  expect(port.addresses).toEqual([B, GROUP]);
});
test('VLANs that go, then those that come', () => {
  const port = new PmdPort(OWN, ALL);
  answer(port, port.change({ vlanFilter: [1, 2] }));
  expect(texts(port.change({ vlanFilter: [2, 3] }))).toEqual(['2.1 2', '2.0 2']);
});
test('what was not negotiated cannot be asked for', () => {
  const none = new PmdPort(OWN, featuresOf());
  expect(none.lacks({ promiscuous: true })).toBe('VIRTIO_NET_F_CTRL_VQ');
  expect(none.lacks({})).toBeNull();
  const rx = new PmdPort(OWN, featuresOf(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX));
  expect(rx.lacks({ allmulticast: true })).toBeNull();
  expect(rx.lacks({ macAddrs: [] })).toBe('VIRTIO_NET_F_CTRL_MAC_ADDR');
  expect(rx.lacks({ vlanFilter: [] })).toBe('VIRTIO_NET_F_CTRL_VLAN');
});
