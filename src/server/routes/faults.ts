/** /v1/topologies/{t}/faults: things that break at a virtual time, or after so many frames, and are repaired. */
import { type Static, Type } from 'typebox';
import type { FaultSpec, FaultState } from '../../lab/faults/fault-types.ts';
import { parseSpan } from '../../lab/units.ts';
import { pageOfList } from '../pages.ts';
import { invalid } from '../problem.ts';
import { BODY, media, problems, WORLD } from '../responses.ts';
import { PageQuery, TopologyPath } from '../schemas/common.ts';
import { FaultPage, FaultPath, FaultRequest, FaultSchema } from '../schemas/fault.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';

const fault = media('The fault.', { 'application/json': ref(FaultSchema) });
const NS = 1e9;

export function addFaultRoutes(app: App, { registry }: Services): void {
  app.get(
    '/v1/topologies/:topology/faults',
    {
      schema: {
        operationId: 'listFaults',
        tags: ['faults'],
        summary: 'Lists the faults',
        params: TopologyPath,
        querystring: PageQuery,
        response: {
          200: media('A page of faults.', { 'application/json': ref(FaultPage) }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED'),
        },
      },
    },
    async (request) => {
      const all = await registry.get(request.params.topology).livingWorld().call('faults', {});
      return pageOfList(all.map(shown), request.query);
    },
  );

  app.post(
    '/v1/topologies/:topology/faults',
    {
      schema: {
        operationId: 'addFault',
        tags: ['faults'],
        summary: 'Has something break',
        description:
          'Faults are part of a deterministic run: the same document with the same commands has the same fingerprint. Frames that are lost are drops with a reason, frames that are sent again are counted as `duplicated`. A client that wants a fault and traffic to begin together pauses the clock before, and lets it go on afterwards.',
        params: TopologyPath,
        body: ref(FaultRequest),
        response: {
          201: {
            description: 'The fault is armed, or has struck.',
            headers: {
              location: Type.String({ description: 'Its address.', examples: ['/v1/topologies/t1/faults/fault-1'] }),
            },
            content: { 'application/json': { schema: ref(FaultSchema) } },
          },
          ...problems(...BODY, ...WORLD),
        },
      },
    },
    async (request, reply) => {
      const { topology } = request.params;
      const world = registry.get(topology).livingWorld();
      const state = await world.call('fault', { spec: specOf(request.body) });
      return reply.code(201).header('location', `/v1/topologies/${topology}/faults/${state.id}`).send(shown(state));
    },
  );

  app.get(
    '/v1/topologies/:topology/faults/:fault',
    {
      schema: {
        operationId: 'getFault',
        tags: ['faults'],
        summary: 'Shows a fault',
        params: FaultPath,
        response: { 200: fault, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED') },
      },
    },
    async (request) => {
      const world = registry.get(request.params.topology).livingWorld();
      return shown(await world.call('getFault', { fault: request.params.fault }));
    },
  );

  app.delete(
    '/v1/topologies/:topology/faults/:fault',
    {
      schema: {
        operationId: 'endFault',
        tags: ['faults'],
        summary: 'Ends a fault',
        description:
          'It does not strike any more, and what it has broken is repaired in virtual time: a dead back-end is started, a cable is plugged. It stays in the list, and so does one that has ended by itself.',
        params: FaultPath,
        response: { 200: fault, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED') },
      },
    },
    async (request) => {
      const world = registry.get(request.params.topology).livingWorld();
      return shown(await world.call('endFault', { fault: request.params.fault }));
    },
  );
}

type Body = Static<typeof FaultRequest>;
/** What each kind takes beside `kind`, `nic` and `at`. */
const FIELDS: Readonly<Record<Body['kind'], readonly (keyof Body)[]>> = {
  backend_crash: ['everyFrames', 'times', 'restartAfter'],
  link_down: ['duration'],
  lost_kick: ['queue', 'count'],
  lost_interrupt: ['queue', 'count'],
};

function specOf(body: Body): FaultSpec {
  const { kind, nic } = body;
  for (const field of Object.keys(body) as (keyof Body)[]) {
    if (field === 'kind' || field === 'nic' || field === 'at' || FIELDS[kind].includes(field)) continue;
    throw invalid(`/${field}`, `${kind} has no ${field}`, `none, or one of ${['at', ...FIELDS[kind]].join(', ')}`);
  }
  const atNs = body.at === undefined ? null : Math.round(body.at * NS);
  if (kind === 'link_down') {
    const durationNs = body.duration === undefined ? null : durationOf(body.duration, '/duration');
    return { kind, nic, atNs, durationNs };
  }
  if (kind === 'lost_kick' || kind === 'lost_interrupt') {
    const queue = body.queue ?? (kind === 'lost_kick' ? 'tx0' : 'rx0');
    return { kind, nic, atNs, queue, count: body.count ?? 1 };
  }
  const { everyFrames = null, times = null, restartAfter = '1ms' } = body;
  if (times !== null && everyFrames === null)
    throw invalid('/times', 'without everyFrames it strikes once', 'none, or everyFrames');
  const restartAfterNs = restartAfter === null ? null : durationOf(restartAfter, '/restartAfter');
  return { kind, nic, atNs, everyFrames, times, restartAfterNs };
}
function durationOf(text: string, pointer: string): number {
  const parsed = parseSpan(text);
  if (parsed.ok) return Math.round(parsed.value);
  throw invalid(pointer, parsed.detail, parsed.expected);
}

const inSeconds = (ns: number | null): number | null => (ns === null ? null : ns / NS);
function shown({
  id,
  spec,
  state,
  reason,
  strikes,
  missed,
  dropped,
  duplicated,
  last,
}: FaultState): Static<typeof FaultSchema> {
  return {
    id,
    kind: spec.kind,
    nic: spec.nic,
    at: inSeconds(spec.atNs),
    everyFrames: spec.kind === 'backend_crash' ? spec.everyFrames : null,
    times: spec.kind === 'backend_crash' ? spec.times : null,
    restartAfterSeconds: spec.kind === 'backend_crash' ? inSeconds(spec.restartAfterNs) : null,
    durationSeconds: spec.kind === 'link_down' ? inSeconds(spec.durationNs) : null,
    queue: 'queue' in spec ? spec.queue : null,
    count: 'count' in spec ? spec.count : null,
    state,
    reason,
    strikes,
    missed,
    dropped,
    duplicated,
    last:
      last === null
        ? null
        : {
            beganAtSeconds: last.beganNs / NS,
            noticedAtSeconds: inSeconds(last.noticedNs),
            restartedAtSeconds: inSeconds(last.restartedNs),
            recoveredAtSeconds: inSeconds(last.recoveredNs),
            dropped: last.dropped,
            duplicated: last.duplicated,
          },
  };
}
