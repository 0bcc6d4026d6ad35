/** What ovs-appctl does: trace, flushes, any command; and frames at ports without a device. */

import { Type } from 'typebox';
import { BODY, media, problems, WORLD } from '../responses.ts';
import { BridgePath, BridgePortPath, HostPath } from '../schemas/common.ts';
import {
  AppctlOutputSchema,
  AppctlRequestSchema,
  DummyFramesQuery,
  DummyFramesRequestSchema,
  DummyFramesSchema,
  TraceRequestSchema,
  TraceSchema,
} from '../schemas/openflow.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { startRun } from '../traffic-runs.ts';
import { accepted, runAddress, runRefusals } from './traffic.ts';

const refusals = problems(...WORLD);
const withBody = problems(...BODY, ...WORLD);

export function addOvsRoutes(app: App, { registry, settings }: Services): void {
  app.post(
    '/v1/topologies/:topology/bridges/:bridge/trace',
    {
      schema: {
        operationId: 'traceFlow',
        tags: ['bridges'],
        summary: 'Follows a frame through the OpenFlow tables',
        description: '`ovs-appctl ofproto/trace`: nothing is learned, counted or sent.',
        params: BridgePath,
        body: ref(TraceRequestSchema),
        response: { 200: media('The trace.', { 'application/json': ref(TraceSchema) }), ...withBody },
      },
    },
    async ({ params: { topology, bridge }, body: { flow, frame } }) => {
      const world = registry.get(topology).livingWorld();
      return await world.call('trace', { bridge, flow, options: frame === null ? [] : [frame] });
    },
  );

  app.delete(
    '/v1/topologies/:topology/bridges/:bridge/fdb',
    {
      schema: {
        operationId: 'flushFdb',
        tags: ['bridges'],
        summary: 'Forgets the learned MAC addresses',
        description: '`ovs-appctl fdb/flush`: static entries stay.',
        params: BridgePath,
        response: { 204: Type.Null({ description: 'Forgotten.' }), ...refusals },
      },
    },
    async ({ params: { topology, bridge } }, reply) => {
      await registry.get(topology).livingWorld().call('flushFdb', { bridge });
      return reply.code(204).send(null);
    },
  );

  app.post(
    '/v1/topologies/:topology/hosts/:host/appctl',
    {
      schema: {
        operationId: 'runAppctl',
        tags: ['bridges'],
        summary: "Runs a command of ovs-appctl in a host's ovs-vswitchd",
        params: HostPath,
        body: ref(AppctlRequestSchema),
        response: { 200: media('What it prints.', { 'application/json': ref(AppctlOutputSchema) }), ...withBody },
      },
    },
    async ({ params: { topology, host }, body: { command, args } }) =>
      await registry.get(topology).livingWorld().call('appctl', { host, command, args }),
  );

  app.get(
    '/v1/topologies/:topology/bridges/:bridge/ports/:port/frames',
    {
      schema: {
        operationId: 'readDummyFrames',
        tags: ['bridges'],
        summary: 'Shows the frames that left by a port without a device',
        description: 'Ports of type `dummy`. The last 1024 frames are kept.',
        params: BridgePortPath,
        querystring: DummyFramesQuery,
        response: { 200: media('The frames.', { 'application/json': ref(DummyFramesSchema) }), ...refusals },
      },
    },
    async ({ params: { topology, bridge, port }, query: { after } }) => {
      const world = registry.get(topology).livingWorld();
      const { sent, frames } = await world.call('dummyFrames', { bridge, port, after });
      const shown = frames.map(({ sequence, timeSeconds, bytes }) => ({
        sequence,
        timeSeconds,
        frame: Buffer.from(bytes).toString('hex'),
      }));
      return { sent, frames: shown };
    },
  );
  app.post(
    '/v1/topologies/:topology/bridges/:bridge/ports/:port/frames',
    {
      schema: {
        operationId: 'injectFrames',
        tags: ['bridges'],
        summary: 'Puts frames into a bridge, as if they came in by a port',
        description: 'The same as POST /v1/topologies/{topology}/frames with the port as its point.',
        params: BridgePortPath,
        body: ref(DummyFramesRequestSchema),
        response: { 202: accepted, ...runRefusals },
      },
    },
    async ({ params: { topology, bridge, port }, body: { frames } }, reply) => {
      const hosted = registry.get(topology);
      const bytes = new Uint8Array(Buffer.from(frames.join(''), 'hex'));
      const lengths = Uint32Array.from(frames, (frame) => frame.length / 2);
      const spec = { kind: 'frames', at: `${bridge}/${port}`, bytes, lengths, times: null } as const;
      const result = await startRun(hosted, settings.limits.runs, spec);
      return reply.code(202).header('location', runAddress(hosted.name, result.id)).send(result);
    },
  );
}
