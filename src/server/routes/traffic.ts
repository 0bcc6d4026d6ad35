/** /v1/topologies/{t}/traffic: generated traffic, and the runs that raw frames and replays make as well. */
import { type Static, Type } from 'typebox';
import type { TrafficSpec } from '../../lab/protocol.ts';
import { BadTraffic, trafficSpec } from '../../lab/traffic-request.ts';
import { pageOfList } from '../pages.ts';
import { invalid } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { PageQuery, RunPath, TopologyPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import { FramesRequest, RunPage, RunSchema, TrafficRequest, WaitQuery } from '../schemas/traffic.ts';
import type { App, Services } from '../services.ts';
import { startRun, waitForRun } from '../traffic-runs.ts';
import { waitOf } from '../waiting.ts';

export const accepted = {
  description: 'The run has been started.',
  headers: {
    location: Type.String({ description: 'Address of the run.', examples: ['/v1/topologies/t1/traffic/run-1'] }),
  },
  content: { 'application/json': { schema: ref(RunSchema) } },
};
export const runRefusals = problems(
  'RINGSIDE_E_SYNTAX',
  'RINGSIDE_E_NOT_FOUND',
  'RINGSIDE_E_WORLD_FAILED',
  'RINGSIDE_E_TOO_LARGE',
  'RINGSIDE_E_MEDIA_TYPE',
  'RINGSIDE_E_VALIDATION',
  'RINGSIDE_E_TOO_MANY',
);
const run = media('The run.', { 'application/json': ref(RunSchema) });

export function addTrafficRoutes(app: App, { registry, settings, stopping }: Services): void {
  app.get(
    '/v1/topologies/:topology/traffic',
    {
      schema: {
        operationId: 'listRuns',
        tags: ['traffic'],
        summary: 'Lists the traffic runs',
        params: TopologyPath,
        querystring: PageQuery,
        response: {
          200: media('A page of runs.', { 'application/json': ref(RunPage) }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED'),
        },
      },
    },
    async (request) =>
      pageOfList(await registry.get(request.params.topology).livingWorld().call('runs', {}), request.query),
  );

  app.post(
    '/v1/topologies/:topology/traffic',
    {
      schema: {
        operationId: 'startTraffic',
        tags: ['traffic'],
        summary: 'Starts generated traffic',
        params: TopologyPath,
        body: ref(TrafficRequest),
        response: { 202: accepted, ...runRefusals },
      },
    },
    async (request, reply) => {
      const hosted = registry.get(request.params.topology);
      const spec = specOf(request.body);
      const result = await startRun(hosted, settings.limits.runs, spec);
      return reply.code(202).header('location', runAddress(hosted.name, result.id)).send(result);
    },
  );

  app.get(
    '/v1/topologies/:topology/traffic/:run',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'getRun',
        tags: ['traffic'],
        summary: 'Shows a run; waits for its end if asked to',
        params: RunPath,
        querystring: WaitQuery,
        response: { 200: run, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED') },
      },
    },
    async (request, reply) => {
      const world = registry.get(request.params.topology).livingWorld();
      const { ms, gone } = waitOf(request.query.wait, reply);
      return await waitForRun(world, request.params.run, ms, stopping.signal, gone);
    },
  );

  app.delete(
    '/v1/topologies/:topology/traffic/:run',
    {
      schema: {
        operationId: 'cancelRun',
        tags: ['traffic'],
        summary: 'Cancels a run',
        description: 'What has been sent already stays on its way. A run that has ended is answered as it is.',
        params: RunPath,
        response: { 200: run, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED') },
      },
    },
    async (request) => {
      const world = registry.get(request.params.topology).livingWorld();
      return await world.call('cancel', { run: request.params.run });
    },
  );

  app.post(
    '/v1/topologies/:topology/frames',
    {
      schema: {
        operationId: 'sendFrames',
        tags: ['traffic'],
        summary: 'Sends raw frames at a point',
        params: TopologyPath,
        body: ref(FramesRequest),
        response: { 202: accepted, ...runRefusals },
      },
    },
    async (request, reply) => {
      const { at, frames } = request.body;
      const hosted = registry.get(request.params.topology);
      const bytes = new Uint8Array(Buffer.from(frames.join(''), 'hex'));
      const lengths = Uint32Array.from(frames, (frame) => frame.length / 2);
      const result = await startRun(hosted, settings.limits.runs, { kind: 'frames', at, bytes, lengths, times: null });
      return reply.code(202).header('location', runAddress(hosted.name, result.id)).send(result);
    },
  );
}

export function runAddress(topology: string, id: string): string {
  return `/v1/topologies/${topology}/traffic/${id}`;
}

/** The request in the engine's units; a field that does not belong to the kind of traffic is a problem. */
function specOf(body: Static<typeof TrafficRequest>): Omit<TrafficSpec, 'id'> {
  try {
    return trafficSpec(body);
  } catch (error) {
    if (error instanceof BadTraffic) throw invalid(error.pointer, error.detail, error.expected);
    throw error;
  }
}
