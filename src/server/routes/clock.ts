/** /v1/topologies/{t}/clock: virtual time, to be run, paused and stepped. */
import type { ClockCommand } from '../../lab/protocol.ts';
import { invalid } from '../problem.ts';
import { BODY, media, problems } from '../responses.ts';
import { TopologyPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import { ClockCommandSchema, ClockSchema } from '../schemas/topology.ts';
import type { App, Services } from '../services.ts';

const ok = media('The clock.', { 'application/json': ref(ClockSchema) });

export function addClockRoutes(app: App, { registry }: Services): void {
  app.get(
    '/v1/topologies/:topology/clock',
    {
      schema: {
        operationId: 'getClock',
        tags: ['clock'],
        summary: "Shows a world's clock",
        params: TopologyPath,
        response: { 200: ok, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED') },
      },
    },
    async (request) => {
      return await registry.get(request.params.topology).livingWorld().call('clock', { command: null });
    },
  );

  app.put(
    '/v1/topologies/:topology/clock',
    {
      schema: {
        operationId: 'setClock',
        tags: ['clock'],
        summary: 'Runs, pauses, steps or paces a world',
        params: TopologyPath,
        body: ref(ClockCommandSchema),
        response: {
          200: ok,
          ...problems(...BODY, 'RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED'),
        },
      },
    },
    async (request) => {
      const world = registry.get(request.params.topology).livingWorld();
      const { until, ...rest } = request.body;
      const moves = (['state', 'step', 'until'] as const).filter((field) => request.body[field] !== undefined);
      if (moves.length > 1) throw invalid(`/${moves[1] ?? ''}`, `${moves.join(' and ')} exclude each other`);
      const command: ClockCommand = until === undefined ? rest : { ...rest, untilSeconds: until };
      return await world.call('clock', { command });
    },
  );
}
