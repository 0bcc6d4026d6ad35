/**
 * /v1/topologies/{t}/dry-runs: what would happen to a frame. A twin of the topology's world gets the frame; the topology
 * itself is only looked at. lab/dry-run.ts says what the twin takes over.
 */
import { RingReader } from '../../engine/event-ring.ts';
import type { DryRunSpec, EngineAnswers } from '../../lab/protocol.ts';
import { twinOf } from '../../lab/twin.ts';
import { dryRunText, related } from '../../readers/journey/dry-run-text.ts';
import { findJourney, type Journey } from '../../readers/journey/journey.ts';
import { EngineFault } from '../engine-thread.ts';
import type { HostedTopology } from '../hosted-topology.ts';
import { invalid, Problem } from '../problem.ts';
import { BODY, media, problems, WORLD } from '../responses.ts';
import { TopologyPath } from '../schemas/common.ts';
import { DryRunRequest, DryRunSchema } from '../schemas/dry-run.ts';
import { JourneyQuery } from '../schemas/journey.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { inTurns, StreamSlots } from '../streaming.ts';
import { journeyBody, journeyType } from './journeys.ts';

/** Twins at a time: each is a world. */
const MOST_AT_A_TIME = 4;
/** Journeys in one answer: a broadcast in a topology of many guests has more. */
const MOST_JOURNEYS = 64;
/** FCS included. */
const SMALLEST = { udp: 64, ping: 98 } as const;

/** What a topology that is at work has beyond its twin; of one at rest nothing is missing. */
const UNDER_WAY: readonly string[] = [
  'frames under way in rings and queues, and the time that contexts are busy with them',
  'where the rings stand: they are as after booting',
  'notifications that are switched off at this moment',
];

export function addDryRunRoutes(app: App, { registry, pool }: Services): void {
  const slots = new StreamSlots(MOST_AT_A_TIME);

  async function rehearse(hosted: HostedTopology, spec: DryRunSpec) {
    const world = hosted.livingWorld();
    const { topology } = hosted;
    if (topology === null) throw new Problem('RINGSIDE_E_WORLD_FAILED', 'The topology has no valid document');
    const release = slots.take();
    let unreserve: () => void = () => undefined;
    try {
      unreserve = registry.reserve(twinOf(topology));
      // Paced time has gone on since the last event: what is learned is as old as it is now.
      await world.call('clock', { command: null });
      const learned = await world.call('learned', {});
      const result = await pool.rehearse(world, topology, learned, spec);
      return { learned, result, journeys: await journeysOf(result) };
    } catch (error) {
      throw told(error);
    } finally {
      unreserve();
      release();
    }
  }

  app.post(
    '/v1/topologies/:topology/dry-runs',
    {
      schema: {
        operationId: 'tryFrame',
        tags: ['traffic'],
        summary: 'Shows what would happen to a frame, without sending it',
        description:
          'The frame is sent in a twin of the topology that has learned the same: MAC tables with their ages, datapath flows and caches, neighbour tables, random streams. The topology itself does not change in any way. SVG and Mermaid draw the journey of the frame that was asked about.',
        params: TopologyPath,
        querystring: JourneyQuery,
        body: ref(DryRunRequest),
        response: {
          200: media('The journeys that the frame would make.', {
            'application/json': ref(DryRunSchema),
            'text/plain': { type: 'string' },
            'image/svg+xml': { type: 'string' },
            'text/vnd.mermaid': { type: 'string' },
          }),
          ...problems(...BODY, ...WORLD, 'RINGSIDE_E_NOT_ACCEPTABLE', 'RINGSIDE_E_LIMIT', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    async (request, reply) => {
      const type = journeyType(request, request.query.format);
      const spec = specOf(request.body);
      const { learned, result, journeys } = await rehearse(registry.get(request.params.topology), spec);
      const asked = result.run.frames.first === 0 ? null : result.run.frames.first;
      const answer = {
        virtualTimeSeconds: result.startNs / 1e9,
        durationSeconds: (result.endNs - result.startNs) / 1e9,
        ended: result.ended,
        reason: reasonOf(result, journeys),
        asked,
        frames: result.frames,
        journeys: related(journeys, asked),
        carriedOver: carriedOver(learned),
        notCarriedOver: learned.rest === null ? UNDER_WAY : [],
      };
      if (type === 'application/json') return reply.type(`${type}; charset=utf-8`).send(answer);
      if (type === 'text/plain') return reply.type(`${type}; charset=utf-8`).send(dryRunText(answer));
      const drawn = journeys.find((journey) => journey.frame === asked);
      if (drawn === undefined) throw new Problem('RINGSIDE_E_CONFLICT', answer.reason ?? 'The frame was never sent');
      return reply.type(`${type}; charset=utf-8`).send(journeyBody(drawn, type));
    },
  );
}

interface DryRunBody {
  readonly at?: string;
  readonly frame?: string;
  readonly kind?: 'udp' | 'ping';
  readonly from?: string;
  readonly to?: string;
  readonly frameSize?: number;
}

/** The two forms of a body; what is missing or too much is named. */
function specOf(body: DryRunBody): DryRunSpec {
  const raw = body.frame !== undefined || body.at !== undefined;
  const [needed, foreign] = raw
    ? ([
        ['at', 'frame'],
        ['kind', 'from', 'to', 'frameSize'],
      ] as const)
    : ([['kind', 'from', 'to'], []] as const);
  const forms = 'either `at` and `frame`, or `kind`, `from` and `to`';
  for (const field of needed) if (body[field] === undefined) throw invalid(`/${field}`, 'is missing', forms);
  for (const field of foreign)
    if (body[field] !== undefined) throw invalid(`/${field}`, 'does not go with `at` and `frame`', forms);
  const id = 'dry-run';
  const { at = '', frame = '', kind = 'udp', from = '', to = '', frameSize = SMALLEST[kind] } = body;
  if (!raw) return { id, kind, from, to, frameSize, count: 1, rate: 0, generator: null, flows: 1 };
  const bytes = new Uint8Array(Buffer.from(frame, 'hex'));
  return { id, kind: 'frames', at, bytes, lengths: Uint32Array.of(bytes.length), times: null };
}

/** A refusal names the list that raw frames come in; here there is one. */
function told(error: unknown): unknown {
  if (!(error instanceof EngineFault) || !/^\/frames(\/|$)/.test(error.field ?? '')) return error;
  return new EngineFault(error.code, error.message, '/frame');
}

/** The journeys of the first frames, the one that was asked about in any case. */
async function journeysOf(result: EngineAnswers['rehearse']): Promise<Journey[]> {
  const reader = new RingReader(result.memory, result.catalog);
  const ids = Array.from({ length: Math.min(result.frames, MOST_JOURNEYS) }, (_, i) => i + 1);
  const asked = result.run.frames.first;
  if (asked > MOST_JOURNEYS) ids[MOST_JOURNEYS - 1] = asked;
  const journeys: Journey[] = [];
  for (const id of ids) {
    const found = await inTurns(findJourney(reader, id));
    if (found.kind === 'found') journeys.push(found.journey);
  }
  return journeys;
}

function reasonOf(result: EngineAnswers['rehearse'], journeys: readonly Journey[]): string | null {
  if (result.run.reason !== undefined) return result.run.reason;
  const bound = `after ${((result.endNs - result.startNs) / 1e6).toFixed(3)} ms of virtual time and ${result.frames} frames`;
  if (result.ended !== 'idle') return `It still went on ${bound}: a loop, or traffic that never ends`;
  const asked = journeys.find((journey) => journey.frame === result.run.frames.first);
  if (asked?.outcome !== 'in flight') return null;
  return 'The frame lies in a queue that nobody empties';
}

function carriedOver(learned: EngineAnswers['learned']) {
  const sum = <T>(list: readonly T[], count: (item: T) => number): number => list.reduce((n, x) => n + count(x), 0);
  return {
    fdbEntries: sum(learned.bridges, (b) => b.fdb.length),
    datapathFlows: sum(learned.datapaths, (d) =>
      'table' in d
        ? d.table.flows.length
        : sum(d.pmds, ({ classifiers }) => sum(classifiers, ([, table]) => table.flows.length)),
    ),
    emcEntries: sum(learned.datapaths, (d) => ('pmds' in d ? sum(d.pmds, ({ emc }) => emc.length) : 0)),
    neighbours: sum(learned.neighbours, (table) => table.length),
  };
}
