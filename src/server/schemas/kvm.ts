/** What KVM shows of a guest. */
import { Type } from 'typebox';
import { closed, mapOf, name, oneOf, orNull } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ minimum: 0, description, examples: [example] });
const text = (description: string, example: string) => Type.String({ description, examples: [example] });
const FD = 'Descriptor in the process of the VMM.';

const VcpuSchema = closed({
  id: whole('Number of the vCPU.'),
  fd: Type.Integer({ description: `${FD} -1 before the guest has booted.`, examples: [14] }),
  exits: Type.Array(
    closed({
      reason: oneOf(['EPT_MISCONFIG', 'IO_INSTRUCTION', 'HLT', 'EXTERNAL_INTERRUPT'], {
        description: 'As the processor names it.',
        examples: ['EPT_MISCONFIG'],
      }),
      handledBy: oneOf(['kernel', 'userspace'], { examples: ['kernel'] }),
      count: whole('Exits so far.', 12),
    }),
  ),
  exitReason: text('`exit_reason` in `struct kvm_run`, of the last return of KVM_RUN.', 'KVM_EXIT_MMIO'),
  returns: mapOf(Type.Integer(), {
    description: 'Returns of KVM_RUN, by `exit_reason`.',
    examples: [{ KVM_EXIT_MMIO: 118 }],
  }),
  haltWakeup: whole('Times that it ran again after HLT (`halt_wakeup`).', 3),
  postedInterrupts: whole('Interrupts that reached it without an exit.'),
  haltPoll: orNull(
    closed({
      haltPollNs: whole('How long the next halt polls (`halt_poll_ns`).', 10000),
      haltAttemptedPoll: whole('`halt_attempted_poll` of its statistics.', 4),
      haltSuccessfulPoll: whole('`halt_successful_poll`.', 3),
      haltPollInvalid: whole('`halt_poll_invalid`; on x86 always 0.'),
      haltPollSuccessNs: whole('`halt_poll_success_ns`.', 21000),
      haltPollFailNs: whole('`halt_poll_fail_ns`.', 10000),
    }),
    { description: 'Halt polling; null where the guest has `"haltPollNs": 0`.', examples: [null] },
  ),
});

export const KvmSchema = name(
  closed(
    {
      guest: text('Name of the guest.', 'a'),
      host: text('Name of its host.', 'h1'),
      vcpus: Type.Array(VcpuSchema, { description: 'Those that run.' }),
      memorySlots: Type.Array(
        closed({
          slot: whole('Number of the slot.'),
          flags: whole('KVM_MEM_LOG_DIRTY_PAGES 1, KVM_MEM_READONLY 2.'),
          guestPhysAddr: text('Guest-physical address.', '0x0'),
          memorySize: whole('Bytes.', 655360),
          userspaceAddr: text("Where it lies in the VMM's process.", '0x7f0000000000'),
        }),
        { description: 'KVM_SET_USER_MEMORY_REGION.' },
      ),
      ioeventfds: Type.Array(
        closed({
          bus: oneOf(['mmio', 'pio'], { examples: ['mmio'] }),
          address: text('Guest-physical address, or port.', '0xfe003000'),
          length: whole('Bytes of the write; 0: any.'),
          datamatch: orNull(Type.Integer(), {
            description: 'The value that it listens to; null: any.',
            examples: [null],
          }),
          fd: Type.Integer({ description: FD, examples: [20] }),
          what: text('What the eventfd is for.', 'a/net0 rx0 kick'),
        }),
        { description: 'KVM_IOEVENTFD.' },
      ),
      irqfds: Type.Array(
        closed({
          fd: Type.Integer({ description: FD, examples: [22] }),
          gsi: Type.Integer({ description: 'Global system interrupt that it raises.', examples: [24] }),
          what: text('What the eventfd is for.', 'a/net0 rx0 call'),
        }),
        { description: 'KVM_IRQFD.' },
      ),
      routes: Type.Array(
        closed({
          gsi: whole('Global system interrupt.', 24),
          type: oneOf(['irqchip', 'msi'], { examples: ['msi'] }),
          irqchip: orNull(Type.Integer(), { description: 'PIC 0 and 1, I/O APIC 2.', examples: [null] }),
          pin: orNull(Type.Integer(), { description: 'Pin of the controller.', examples: [null] }),
          address: orNull(Type.String(), { description: 'Address of the message.', examples: ['0xfee01004'] }),
          data: orNull(Type.Integer(), { description: 'Its data; the vector is the low byte.', examples: [35] }),
        }),
        { description: 'KVM_SET_GSI_ROUTING.' },
      ),
      descriptors: Type.Array(
        closed({
          fd: Type.Integer({ examples: [3] }),
          file: text('What it refers to.', '/dev/kvm'),
        }),
        { description: "What the VMM's process has open." },
      ),
    },
    { $id: 'Kvm', description: 'What KVM knows of a guest, and what its VMM has open.' },
  ),
);
