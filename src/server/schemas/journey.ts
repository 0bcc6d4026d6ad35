/** Journeys: what is recorded of single frames. */
import { Type } from 'typebox';
import { closed, mapOf, name, orNull, ref } from './reference.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const JourneyHop = name(
  closed(
    {
      time: number('Virtual time in seconds.', 0.0021),
      sinceStartNs: number("Nanoseconds since the frame's first event.", 1200),
      place: Type.String({ examples: ['a/net0/tx0'] }),
      placeType: Type.String({ examples: ['queue'] }),
      context: Type.String({ description: 'Who did it.', examples: ['a/vcpu0'] }),
      event: Type.String({ examples: ['virtq.avail'] }),
      text: Type.String({ examples: ['the driver put the frame into the available ring'] }),
      version: whole('Index into `versions`; -1 = not known yet.'),
      costNs: number('Processing up to this step and charged to it.', 130),
      waitedNs: number("Time since the previous context's last work for the frame.", 0),
      copies: whole('Bytes that a host CPU copied in this step.', 0),
      exits: whole('VM exits that it caused.', 1),
      kicks: whole('Kicks that it caused.', 1),
      interrupts: whole('Interrupts that it caused.', 0),
      cache: orNull(Type.String(), { description: 'Which flow cache answered.', examples: [null] }),
      onPath: Type.Boolean({ description: 'False for what happens to the buffer afterwards.', examples: [true] }),
      charged: Type.Array(Type.String(), {
        description: 'Events that were charged to this step.',
        examples: [['virtq.kick']],
      }),
    },
    { $id: 'JourneyHop', description: "A step of a frame's journey." },
  ),
);
export const JourneySchema = name(
  closed(
    {
      frame: whole('Id of the frame.', 1),
      parent: orNull(Type.Integer(), { description: 'The frame that this is a copy of.', examples: [null] }),
      clones: Type.Array(Type.Integer(), { description: 'Copies made by flooding.', examples: [[2]] }),
      versions: Type.Array(
        closed({
          time: number('Virtual time in seconds.', 0.0021),
          bytes: whole('Length.', 60),
          hex: orNull(Type.String(), {
            description: 'null where the bytes have been overwritten.',
            examples: ['5254'],
          }),
        }),
        { description: 'The bytes, each version once.' },
      ),
      hops: Type.Array(ref(JourneyHop)),
      outcome: Type.String({
        description: '`delivered`, `consumed`, `dropped:<reason>` or `in flight`.',
        examples: ['delivered'],
      }),
      totals: closed({
        latencyNs: number('From the first event to the end.', 9000),
        processingNs: number('Of that, processing.', 5000),
        waitingNs: number('Of that, waiting.', 4000),
        copies: whole('Copies by host CPUs.', 2),
        copiedBytes: whole('Bytes they copied.', 120),
        exits: whole('VM exits.', 1),
        exitsByReason: mapOf(Type.Integer(), { examples: [{ 'kvm.exit_ept_misconfig_kernel': 1 }] }),
        kicks: whole('Kicks.', 1),
        interrupts: whole('Interrupts.', 1),
      }),
    },
    { $id: 'Journey', description: 'Everything that is recorded of one frame.' },
  ),
);
