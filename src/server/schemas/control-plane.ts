/** The control plane of a guest, as it was recorded. */
import { Type } from 'typebox';
import { closed, mapOf, name, orNull, ref, withDefaults } from './reference.ts';

export const ControlPlaneQuery = withDefaults(
  closed({
    from: Type.Integer({
      minimum: 0,
      default: 0,
      description: 'Sequence number of the first event to look at.',
      examples: [0],
    }),
    limit: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 200,
      description: 'Most steps to answer.',
      examples: [200],
    }),
    exits: Type.Boolean({
      default: false,
      description: 'Also each return of KVM_RUN and each call of it.',
      examples: [false],
    }),
  }),
);

const ControlStepSchema = name(
  closed(
    {
      seq: Type.Integer({ description: 'Sequence number of the event.', examples: [12] }),
      ns: Type.Number({ description: 'Virtual time, nanoseconds.', examples: [0] }),
      event: Type.String({ description: 'Kind of event.', examples: ['kvm.ioctl'] }),
      place: Type.String({ examples: ['a/vcpu0'] }),
      context: Type.String({ description: 'Who did it.', examples: ['a/vcpu0'] }),
      call: Type.String({
        description: 'Request or message; of what has no name of its own the kind of event.',
        examples: ['KVM_SET_USER_MEMORY_REGION'],
      }),
      fields: mapOf(Type.Unknown(), {
        description:
          'Its fields as they were passed, under the names of the structure. Numbers are numbers; `entries` and `regions` are lists of structures.',
        examples: [{ slot: 0, flags: 0, guest_phys_addr: 0, memory_size: 655360, userspace_addr: 139637976727552 }],
      }),
      result: orNull(Type.Integer(), {
        description: 'What a system call returned, negative for an errno; null of what is none.',
        examples: [0],
      }),
    },
    { $id: 'ControlStep', description: 'A step of the control plane.' },
  ),
);
export const ControlPlaneSchema = name(
  closed(
    {
      items: Type.Array(ref(ControlStepSchema), { description: 'Oldest first.' }),
      next: orNull(Type.Integer(), { description: 'Where to go on from; null at the end.', examples: [null] }),
    },
    {
      $id: 'ControlPlane',
      description: 'What was done to set a guest up and to hand its data plane over, decoded from the recorded bytes.',
    },
  ),
);
