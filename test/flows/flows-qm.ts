/** What QEMU does to a NIC while its guest runs: another back-end, as a live migration to the same host. Read flow.ts first. */
import * as V from '../../src/machine/vhost/kernel/vhost-net.ts';
import { KVM_IOEVENTFD, KVM_IRQFD } from '../../src/machine/wire/kvm.ts';
import type { Flow, FlowEvent, Step } from './flow.ts';

const LOOP = 'qemu-a';
/** What ovs-vswitchd does is recorded under its handler. */
const SWITCH = { context: 'handler-br0' } as const;
const TOLD = new Set(['dp.port_del', 'dp.port_add', 'vhost.ioctl', 'packet.born', 'tap.xmit', 'virtio.config_change']);
/** From the stop of the vCPUs on, what the main loop does; tap ioctls and what flows become are other stories. */
function migration(events: readonly FlowEvent[]): FlowEvent[] {
  const own = events
    .slice(events.findIndex((e) => e.event === 'qemu.vm_stop'))
    .filter((e) => e.context === LOOP || /^dp\.port_(add|del)$/.test(e.event));
  const eventfds = (e: FlowEvent): boolean =>
    e.event === 'kvm.ioctl' && [KVM_IOEVENTFD, KVM_IRQFD].includes(Number(e['ioctl']));
  return own.filter((e) => e.event.startsWith('qemu.') || TOLD.has(e.event) || eventfds(e));
}
function step(place: string, event: string, more: Partial<Step> = {}): Step {
  return { context: LOOP, place, event, ...more };
}
const vhost = (ioctl: number, text?: string, more: Partial<Step> = {}): Step =>
  step('a/net0/vhost-net', 'vhost.ioctl', { is: { ioctl }, ...(text === undefined ? {} : { text }), ...more });
const kvm = (ioctl: number, text: string, more: Partial<Step> = {}): Step =>
  step('a/vcpu0', 'kvm.ioctl', { is: { ioctl }, text, ...more });
const ring = (queue: number): Step[] => [
  vhost(V.VHOST_SET_VRING_NUM, `queue ${queue}`),
  vhost(V.VHOST_SET_VRING_BASE, 'from where the ring stands: four chains have been taken'),
  vhost(V.VHOST_SET_VRING_ADDR),
  vhost(V.VHOST_SET_VRING_KICK),
  vhost(V.VHOST_SET_VRING_CALL),
];

const guest = (name: string, i: number): object => ({
  name,
  nics: [
    {
      ...{ name: 'net0', bridge: 'br0', backend: 'virtio-net', addresses: [`10.0.0.${i}/24`] },
      features: { VIRTIO_F_RING_RESET: false },
    },
  ],
});

const qm1: Flow = {
  id: 'qm-1',
  title: 'A NIC goes from QEMU to vhost-net while its guest runs',
  about: [
    'Guest a has exchanged three echoes with guest b through QEMU. `PATCH …/guests/a/nics/net0 {"backend": "vhost-net"}` does what a live migration to the same host would do: the vCPUs stop, QEMU takes the rings back and remembers where they stand, the state of the device is saved as bytes; the old tap leaves the bridge and a new one with a vhost device behind it comes; the state is loaded, the rings are handed to vhost-net where they stood, and the vCPUs go on. A RARP tells the bridge where the address is now, and the driver is asked to tell everybody else.',
  ],
  notes: [
    'The device does not offer VIRTIO_F_RING_RESET: vhost-net has none, and a driver that uses it cannot be given that back-end.',
    'QEMU announces five times, 50 to 550 ms apart; here once.',
  ],
  document: { hosts: [{ name: 'h1', bridges: [{ name: 'br0' }], guests: [guest('a', 1), guest('b', 2)] }] },
  actions: [
    { traffic: { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 3 } },
    { patch: 'guests/a/nics/net0', body: { backend: 'vhost-net' } },
  ],
  scope: migration,
  steps: [
    step('a/qemu', 'qemu.vm_stop', { name: 'stop', text: 'all vCPUs have left KVM_RUN: the downtime begins' }),
    kvm(KVM_IOEVENTFD, 'the doorbell of rx0 is nobody’s', { after: 'stop', takes: ['3 * qemu_ring_handover'] }),
    kvm(KVM_IOEVENTFD, 'that of tx0'),
    step('a/net0/virtio-net', 'qemu.ring_stop', { is: { queue: 0, base: 4 } }),
    step('a/net0/virtio-net', 'qemu.ring_stop', { is: { queue: 1, base: 4 }, name: 'rings' }),
    kvm(KVM_IOEVENTFD, 'that of the control queue'),
    step('a/qemu', 'qemu.device_state', {
      is: { loaded: 0 },
      text: 'status, features, configuration, queues, positions, what commands have set',
      after: 'rings',
      takes: ['qemu_device_state'],
      name: 'saved',
    }),
    step('br0/a.net0', 'dp.port_del', { ...SWITCH, after: 'saved', takes: ['2 * qemu_ring_handover'] }),
    step('br0/a.net0', 'dp.port_add', SWITCH),
    vhost(V.VHOST_SET_OWNER, 'a vhost device of its own'),
    vhost(V.VHOST_GET_FEATURES),
    step('a/qemu', 'qemu.netdev', { is: { before: 0, after: 1 }, name: 'switched' }),
    step('a/qemu', 'qemu.device_state', { is: { loaded: 1 }, takes: ['qemu_device_state'], name: 'loaded' }),
    kvm(KVM_IRQFD, 'interrupts of rx0 come from the kernel now', {
      after: 'loaded',
      takes: ['3 * qemu_ring_handover'],
    }),
    kvm(KVM_IRQFD, 'those of tx0'),
    kvm(KVM_IOEVENTFD, 'its kicks go to the worker'),
    kvm(KVM_IOEVENTFD, 'its kicks go to the worker'),
    vhost(V.VHOST_GET_BACKEND_FEATURES),
    vhost(V.VHOST_SET_BACKEND_FEATURES),
    vhost(V.VHOST_SET_FEATURES),
    vhost(V.VHOST_SET_MEM_TABLE),
    ...ring(0),
    ...ring(1),
    vhost(V.VHOST_NET_SET_BACKEND, 'rx0 has the tap'),
    vhost(V.VHOST_NET_SET_BACKEND, 'tx0 has the tap'),
    step('a/net0/vhost-net', 'qemu.ring_start', { is: { queue: 0, base: 4 } }),
    step('a/net0/vhost-net', 'qemu.ring_start', { is: { queue: 1, base: 4 }, name: 'handed' }),
    step('a/qemu', 'qemu.vm_start', {
      text: 'the vCPUs run: the downtime ends',
      after: 'handed',
      takes: ['qemu_vm_stop'],
    }),
    step('a/net0/vhost-net', 'packet.born', {
      text: 'RARP in the name of the guest',
      takes: ['tap_write_syscall', 'ovs_kernel_per_packet'],
    }),
    step('br0/a.net0/tap', 'tap.xmit'),
    step('a/net0', 'virtio.config_change', { text: 'VIRTIO_NET_S_ANNOUNCE: the driver sends gratuitous ARP' }),
  ],
  counts: [
    { text: 'frames dropped', of: (e) => /^(port|tap)\.(removed|queue_full)$/.test(e.event), expected: 0 },
    {
      text: 'gratuitous ARP',
      of: (e) => e.event === 'guest.xmit' && e.context === 'a/vcpu0' && e['bytes'] === 60,
      expected: 1,
    },
  ],
  countedOver: 'the migration and what follows it',
  journeys: [],
};

export const QM_FLOWS: readonly Flow[] = [qm1];
/** Three echoes and their ARP: 8 frames. */
export const QM_COUNTED_FROM: Readonly<Record<string, number>> = { 'qm-1': 10 };
