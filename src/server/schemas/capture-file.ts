/** Captures on disk: what is asked for, and how they stand. */
import { type TSchema, Type } from 'typebox';
import { END_REASONS } from '../captures/capture-job.ts';
import { MOST_FILES } from '../captures/capture-spec.ts';
import { snaplen, view } from './capture.ts';
import { NAME, NAME_FORM, TopologyName } from './common.ts';
import { eventFilter } from './event-filter.ts';
import { closed, name, oneOf, orNull, pageOf, ref, withDefaults } from './reference.ts';

const MOST = Number.MAX_SAFE_INTEGER;
const whole = (description: string, example: number, options: object = {}) =>
  Type.Integer({ minimum: 0, maximum: MOST, description, examples: [example], ...options });
const limit = (description: string, example: number, minimum = 1) =>
  orNull(Type.Integer({ minimum, maximum: MOST }), { default: null, description, examples: [example] });
const seconds = (description: string, example: number) =>
  orNull(Type.Number({ minimum: 0, maximum: 1e9 }), { default: null, description, examples: [example] });

/** A schema with a default value, also where it is a reference. */
const orElse = <T extends TSchema>(schema: T, value: unknown): T => ({ ...schema, default: value });

const CaptureFilter = name(
  closed(eventFilter, {
    $id: 'CaptureFilter',
    description: 'All that are given must match; the grammar of event streams.',
  }),
);
const FileLimits = name(
  withDefaults(
    closed(
      {
        maxBytes: limit('A new file begins before this size is exceeded.', 16_777_216, 4096),
        maxPackets: limit('A new file begins after so many packets.', 100_000),
        maxFiles: orNull(Type.Integer({ minimum: 1, maximum: MOST_FILES }), {
          default: null,
          description: `Files that are kept, at most ${MOST_FILES}.`,
          examples: [8],
        }),
        ring: Type.Boolean({
          default: false,
          description: 'When there are `maxFiles`, the oldest goes; else the capture stops.',
          examples: [true],
        }),
      },
      { $id: 'CaptureFileLimits', description: 'When a file is full. Without limits there is one file.' },
    ),
  ),
);
const StopLimits = name(
  withDefaults(
    closed(
      {
        packets: limit('After so many packets.', 1000),
        bytes: limit('Before the files exceed this size.', 1_048_576),
        durationSeconds: seconds('After this virtual time.', 0.5),
        wallSeconds: seconds('After this wall time.', 60),
        idleSeconds: seconds('When nothing more was recorded for this wall time.', 1),
      },
      { $id: 'CaptureStop', description: 'When the capture ends by itself; the first condition that holds.' },
    ),
  ),
);
const Trigger = name(
  withDefaults(
    closed(
      {
        on: ref(CaptureFilter),
        before: whole('Events before the first one that matches; at most a quarter of the ring.', 5000, { default: 0 }),
        after: whole('Events from the one that matches on.', 1, { default: 1, minimum: 1 }),
      },
      {
        $id: 'CaptureTrigger',
        description:
          'Waits for the first event that matches `on`, then writes the rows of exactly the events around it, and stops.',
        examples: [{ on: { events: 'tap.queue_full' }, before: 5000, after: 100 }],
      },
    ),
  ),
);
const wanted = {
  view,
  points: orNull(Type.Array(Type.String({ minLength: 1, maxLength: 400, examples: ['br0/*'] }), { maxItems: 1000 }), {
    default: null,
    description: 'Hops to capture at: names, or patterns with `*`. null: what the view has.',
    examples: [null],
  }),
  filter: orElse(ref(CaptureFilter), {}),
  snaplen: orElse(snaplen, 0),
  slow: oneOf(['drop', 'block'], {
    default: 'drop',
    description:
      'Where the world is faster than the disk: `drop` loses rows and counts them; with `block` virtual time waits.',
    examples: ['block'],
  }),
  from: oneOf(['now', 'start'], {
    default: 'now',
    description: 'Begins with what comes, or with the oldest that is held. A trigger looks from here on.',
    examples: ['now'],
  }),
  file: orElse(ref(FileLimits), { maxBytes: null, maxPackets: null, maxFiles: null, ring: false }),
  stop: orElse(ref(StopLimits), {
    packets: null,
    bytes: null,
    durationSeconds: null,
    wallSeconds: null,
    idleSeconds: null,
  }),
  trigger: orNull(ref(Trigger), { default: null }),
};
export const CaptureRequest = name(
  withDefaults(
    closed(
      {
        name: orNull(Type.String({ pattern: NAME, description: NAME_FORM }), {
          default: null,
          description: 'Id of the capture; without one the server makes `capture-<number>`.',
          examples: ['first-drop'],
        }),
        ...wanted,
      },
      {
        $id: 'CaptureRequest',
        description: 'A capture to be written to disk.',
        examples: [{ view: 'journey', slow: 'block', file: { maxBytes: 16_777_216, maxFiles: 8, ring: true } }],
      },
    ),
  ),
);

export const CaptureFileSchema = name(
  closed(
    {
      name: Type.String({ examples: ['00001.pcapng'] }),
      bytes: whole('Size.', 4096),
      packets: whole('Packets, which are the rows in Wireshark.', 17),
      firstFrame: whole('Lowest frame id in it; 0 = none.', 1),
      lastFrame: whole('Highest frame id in it; 0 = none.', 9),
      startSeconds: Type.Number({ description: 'Virtual time of the first packet.', examples: [0.001] }),
      endSeconds: Type.Number({ description: 'Virtual time of the last packet.', examples: [0.002] }),
      sealed: Type.Boolean({ description: 'Nothing will be added.', examples: [true] }),
    },
    { $id: 'CaptureFile', description: 'A file of a capture.' },
  ),
);
export const CaptureFiles = name(
  closed({ items: Type.Array(ref(CaptureFileSchema)) }, { $id: 'CaptureFiles', description: 'Files, oldest first.' }),
);

export const CaptureSchema = name(
  closed(
    {
      id: Type.String({ examples: ['capture-1'] }),
      topology: TopologyName,
      state: oneOf(['WAITING', 'RECORDING', 'STOPPED', 'INTERRUPTED', 'FAILED'], {
        description:
          '`WAITING`: for its trigger. `INTERRUPTED`: the server died; what was written is there. `FAILED`: see `end`.',
        examples: ['STOPPED'],
      }),
      createdAt: Type.String({ description: 'Wall time, UTC.', examples: ['2026-01-01T00:00:00.000Z'] }),
      endedAt: orNull(Type.String(), { examples: ['2026-01-01T00:00:01.000Z'] }),
      end: orNull(
        closed({
          reason: oneOf(END_REASONS, { examples: ['PACKETS'] }),
          detail: Type.String({ examples: ['the packets that were asked for are written'] }),
        }),
        { description: 'Why it ended; null while it runs.' },
      ),
      ...wanted,
      files: Type.Array(ref(CaptureFileSchema), { description: 'Files that are there, oldest first.' }),
      bytes: whole('Size of the files.', 4096),
      packets: whole('Packets that were written, those in removed files included.', 17),
      removedFiles: whole('Files that the ring of files has removed.', 0),
      lost: closed(
        {
          events: whole('Events that were overwritten before they could be read.', 0),
          packets: orNull(whole('Packets that were seen and are not in the files; known at the end.', 0), {
            examples: [0],
          }),
        },
        { description: 'What is missing. Rows among lost events are not counted as packets.' },
      ),
      triggered: orNull(
        closed({
          event: whole('Sequence number of the event that matched.', 4711),
          virtualTimeSeconds: Type.Number({ description: 'Its virtual time.', examples: [0.0012] }),
        }),
        { description: 'What the trigger matched; null while nothing did.' },
      ),
    },
    { $id: 'Capture', description: 'A capture on disk.' },
  ),
);
export const CapturePage = pageOf(CaptureSchema, 'CapturePage');
export const CapturePatch = name(
  closed(
    { state: oneOf(['STOPPED'], { examples: ['STOPPED'] }) },
    { $id: 'CapturePatch', description: 'Ends the capture; its files stay.', examples: [{ state: 'STOPPED' }] },
  ),
);

const CapturedHop = name(
  closed(
    {
      file: Type.String({ description: 'File that has the row.', examples: ['00001.pcapng'] }),
      ns: whole('Virtual time, ns.', 857_676),
      time: Type.Number({ description: 'The same in seconds.', examples: [0.000857676] }),
      text: Type.String({ examples: ['the driver put the frame into the available ring'] }),
      place: Type.String({ examples: ['a/net0/tx0'] }),
      event: Type.String({ examples: ['virtq.avail'] }),
      context: Type.String({ examples: ['a/vcpu0'] }),
      costNs: whole('Processing since the frame’s previous row.', 120),
      waitedNs: whole('Waiting since then.', 0),
      copiedBytes: whole('Bytes that host CPUs copied since then.', 0),
      copies: whole('Number of these copies.', 0),
      exits: whole('VM exits that the row caused.', 1),
      exitReasons: Type.Array(Type.String({ examples: ['ept_misconfig_kernel'] })),
      kicks: whole('Kicks that it caused.', 1),
      interrupts: whole('Interrupts that it caused.', 0),
      cache: orNull(Type.String(), { description: 'Flow cache that answered.', examples: ['emc_hit'] }),
      drop: orNull(Type.String(), { description: 'Why the frame was dropped here.', examples: ['tap.queue_full'] }),
      parent: orNull(whole('Frame that this one is a copy of.', 7), { examples: [null] }),
      seq: orNull(whole('Sequence number, in captures of events.', 4711), { examples: [null] }),
      bytes: whole('Length of the packet.', 60),
      hex: Type.String({ description: 'What was kept of it.', examples: ['ffffffffffff'] }),
    },
    { $id: 'CapturedHop', description: 'A row of a frame, as its comment tells it.' },
  ),
);
export const CapturedFrame = name(
  closed(
    {
      frame: whole('Id of the frame.', 1),
      outcome: orNull(Type.String(), {
        description: '`delivered`, `consumed` or `dropped:<reason>`, as far as the rows tell; null where they do not.',
        examples: ['delivered'],
      }),
      hops: Type.Array(ref(CapturedHop), { description: 'Its rows, in the order of the files.' }),
    },
    { $id: 'CapturedFrame', description: 'A frame as a capture has it.' },
  ),
);
