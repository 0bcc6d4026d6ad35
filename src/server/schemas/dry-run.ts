/** Dry runs: a frame to try out, and what would happen to it. */
import { Type } from 'typebox';
import { JourneySchema } from './journey.ts';
import { closed, name, oneOf, orNull, ref } from './reference.ts';
import { FramesRequest } from './traffic.ts';

const whole = (description: string, example = 0) => Type.Integer({ description, examples: [example] });
const number = (description: string, example = 0) => Type.Number({ description, examples: [example] });

const end = (description: string) =>
  Type.Optional(Type.String({ minLength: 1, maxLength: 200, description, examples: ['a/net0'] }));
export const DryRunRequest = name(
  closed(
    {
      at: end('Where the frame enters: `guest/nic`, `bridge/port` or the name of a physical NIC. With `frame`.'),
      frame: Type.Optional(FramesRequest.properties.frames.items),
      kind: Type.Optional(
        oneOf(['udp', 'ping'], {
          description: 'Instead of `frame`: a datagram or an echo request.',
          examples: ['udp'],
        }),
      ),
      from: end('Who sends it.'),
      to: end('Who it is for.'),
      frameSize: Type.Optional(
        Type.Integer({
          minimum: 64,
          maximum: 1518,
          description: 'Bytes with FCS; 64 (98 for a ping) when left out.',
          examples: [64],
        }),
      ),
    },
    {
      $id: 'DryRunRequest',
      description: 'A frame to try out: either `at` and `frame`, or `kind`, `from` and `to`.',
      examples: [{ kind: 'udp', from: 'a/net0', to: 'b/net0', frameSize: 64 }],
    },
  ),
);
const DryRunFrame = name(
  closed(
    {
      relation: oneOf(['asked', 'copy', 'other'], {
        description:
          '`asked`: the frame itself. `copy`: made of it by flooding. `other`: what it needed or caused, as ARP before it and answers after it.',
        examples: ['asked'],
      }),
      journey: ref(JourneySchema),
    },
    { $id: 'DryRunFrame', description: 'A frame of a dry run.' },
  ),
);
export const DryRunSchema = name(
  closed(
    {
      virtualTimeSeconds: number('When the frame would be sent: the virtual time of the topology.', 0.0021),
      durationSeconds: number('Virtual time until nothing more happened.', 0.00008),
      ended: oneOf(['idle', 'events', 'time'], {
        description: '`idle`: nothing more happens. `events`, `time`: it still went on when a bound was reached.',
        examples: ['idle'],
      }),
      reason: orNull(Type.String(), {
        description: 'Why the frame has no end, or was never sent.',
        examples: [null],
      }),
      asked: orNull(Type.Integer(), {
        description: 'Id of the frame that was asked about; ids count from 1 in each dry run.',
        examples: [1],
      }),
      frames: whole('Frames that were made.', 1),
      journeys: Type.Array(ref(DryRunFrame), {
        description: 'The frame that was asked about first, then its copies, then others; at most 64.',
      }),
      carriedOver: closed({
        fdbEntries: whole('Entries of MAC tables.', 2),
        datapathFlows: whole('Datapath flows.', 2),
        emcEntries: whole('Entries of exact match caches.', 0),
        neighbours: whole('Entries of neighbour tables.', 2),
      }),
      notCarriedOver: Type.Array(Type.String(), {
        description: 'What of the topology as it is now does not act on the frame; empty where it is at rest.',
        examples: [['frames under way']],
      }),
    },
    { $id: 'DryRun', description: 'What would happen to a frame.' },
  ),
);
