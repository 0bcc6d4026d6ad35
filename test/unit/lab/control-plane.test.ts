/** The control plane of a guest, decoded from what was recorded. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../src/engine/events.ts';
import { controlPlane } from '../../../src/lab/control-plane.ts';
import type { ControlStep } from '../../../src/lab/control-steps.ts';
import { kvmState } from '../../../src/lab/inspect-kvm.ts';
import type { World } from '../../../src/lab/world.ts';
import { recorded } from './recorded.ts';
import { type Backend, makeWorld, pairDocument } from './world-driver.ts';

const ALL = { from: 0, limit: 10_000, exits: false };
function stepsOf(backend: Backend): { world: World; steps: readonly ControlStep[] } {
  const world = makeWorld(pairDocument(backend));
  return { world, steps: controlPlane(world.machine, 'a', ALL).items };
}
const called = (steps: readonly ControlStep[], name: string): ControlStep[] => steps.filter((s) => s.call === name);

test("KVM's ioctls with the structures that they were given and what they returned", () => {
  const { world, steps } = stepsOf('vhost-net');
  expect(called(steps, 'KVM_GET_API_VERSION')[0]).toMatchObject({ result: 12, context: 'a/vcpu0', place: 'a/vcpu0' });
  expect(called(steps, 'KVM_CHECK_EXTENSION').map((s) => s.fields['capability'])).toContain('KVM_CAP_IOEVENTFD');
  const state = kvmState(world.machine, 'a');
  const vcpu = state.descriptors.find((d) => d.file === 'anon_inode:kvm-vcpu:0')!;
  expect(called(steps, 'KVM_CREATE_VCPU').map((s) => s.result)).toEqual([vcpu.fd]);
  expect(called(steps, 'KVM_SET_USER_MEMORY_REGION').map((s) => [s.fields['slot'], s.fields['memory_size']])).toEqual(
    state.memorySlots.map((m) => [m.slot, m.memorySize]),
  );
  expect(called(steps, 'KVM_IRQFD').map((s) => [s.fields['fd'], s.fields['gsi'], s.result])).toEqual(
    state.irqfds.map((i) => [i.fd, i.gsi, 0]),
  );
  const entries = called(steps, 'KVM_SET_GSI_ROUTING').at(-1)!.fields['entries'] as readonly Record<string, number>[];
  expect(entries.filter((e) => e['type'] === 2).map((e) => [e['gsi'], e['data']])).toEqual(
    state.routes.filter((r) => r.type === 'msi').map((r) => [r.gsi, r.data]),
  );
});

describe('what else there is', () => {
  test('vhost-net: taps and vhost by name', () => {
    const { steps } = stepsOf('vhost-net');
    for (const name of ['TUNSETIFF', 'VHOST_SET_OWNER', 'VHOST_SET_MEM_TABLE', 'VHOST_NET_SET_BACKEND', 'qemu.phase'])
      expect(called(steps, name).length, name).toBeGreaterThan(0);
  });
  test('vhost-user: messages with their payloads', () => {
    const { steps } = stepsOf('vhost-user');
    const table = steps.find((s) => s.call.endsWith('SET_MEM_TABLE') && s.fields['reply'] === 0)!;
    expect((table.fields['regions'] as readonly unknown[]).length).toBe(2);
    expect(table.result).toBeNull();
  });
});

test('only the guest that was asked for, in order, each once; pages join', () => {
  const { world, steps } = stepsOf('vhost-user');
  expect(steps.every((s) => s.place.startsWith('a/'))).toBe(true);
  expect(steps.map((s) => s.seq)).toEqual([...steps.map((s) => s.seq)].sort((x, y) => x - y));
  const joined: ControlStep[] = [];
  for (let from: number | null = 0; from !== null; ) {
    const page = controlPlane(world.machine, 'a', { from, limit: 7, exits: false });
    expect(page.items.length).toBeLessThanOrEqual(7);
    joined.push(...page.items);
    from = page.next;
  }
  expect(joined).toEqual(steps);
});

test('exits are shown where they are wanted', () => {
  const { world } = stepsOf('virtio-net');
  const { items } = controlPlane(world.machine, 'a', { ...ALL, exits: true });
  const place = world.machine.guests[0]!.vcpuPlace;
  const returns = recorded(world, E.KVM_USERSPACE_EXIT).events.filter((e) => e.place === place);
  expect(called(items, 'kvm.userspace_exit').length).toBe(returns.length);
  expect(called(items, 'kvm.userspace_exit')[0]!.fields['exit_reason']).toBe('KVM_EXIT_IO');
  expect(() => controlPlane(world.machine, 'nobody', ALL)).toThrow('there is no guest nobody');
});
