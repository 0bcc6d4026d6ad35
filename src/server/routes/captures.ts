/** /v1/topologies/{t}/capture.pcapng: what has been recorded, for Wireshark; or, with `follow`, what is being recorded. */
import { Capture, type CaptureOptions, captureChunks, UnknownPointError } from '../../readers/capture/capture.ts';
import { EventFilterError } from '../../readers/events/event-filter.ts';
import { commaList } from '../../readers/glob.ts';
import { type FollowLimits, followCapture } from '../captures/follow.ts';
import { filterOf, filterProblem } from '../events/event-filter.ts';
import { Problem } from '../problem.ts';
import { media, problems } from '../responses.ts';
import { CaptureQuery } from '../schemas/capture.ts';
import { TopologyPath } from '../schemas/common.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';
import { VERSION } from '../version.ts';

export function addCaptureRoutes(app: App, { registry, stopping, streams }: Services): void {
  app.get(
    '/v1/topologies/:topology/capture.pcapng',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'downloadCapture',
        tags: ['recording'],
        summary: 'Downloads the recorded hops as pcapng, or follows them',
        description:
          'What is held in the recorder’s rings when the download begins; with `follow`, what is recorded from then on, as ' +
          'it comes: `curl -sN "…/capture.pcapng?follow=true" | wireshark -k -i -`. While traffic runs at full speed the ' +
          'rings go on and overtake a slow client: rows that are lost so are counted in the interface statistics. ' +
          '`slow=block` makes virtual time wait instead; a capture on disk (`/captures`) is written by a thread of its own.',
        params: TopologyPath,
        querystring: CaptureQuery,
        response: {
          200: media('A pcapng file, one interface for each hop.', { 'application/x-pcapng': {} }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    async (request, reply) => {
      const { view, points, snaplen, follow, from, slow } = request.query;
      const limits = limitsOf(request.query);
      const hosted = registry.get(request.params.topology);
      const world = hosted.heldWorld();
      const options: CaptureOptions = {
        view,
        filter: filterOf(request.query),
        application: `Ringside ${VERSION}`,
        ...(points === undefined ? {} : { points: commaList(points) }),
        ...(snaplen === undefined ? {} : { snaplen }),
        ...(follow && from !== 'start' ? { fromEvent: world.counters.head() } : {}),
      };
      reply.header('content-disposition', `attachment; filename="${hosted.name}-${view}.pcapng"`);
      reply.type('application/x-pcapng');
      if (!follow) {
        const chunks = openCapture(() => captureChunks(world.openReader(), options));
        streams.takeFor(reply);
        return sendStream(reply, streamOf(chunks, stopping));
      }
      const capture = openCapture(() => new Capture(world.openReader(), options));
      streams.takeFor(reply);
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      const hold = slow === 'block' ? world.takeHold(options.fromEvent) : null;
      if (hold !== null) reply.raw.once('close', () => hold.release());
      const ended = AbortSignal.any([gone.signal, stopping.signal]);
      return sendStream(reply, streamOf(followCapture(world, capture, limits, hold, ended), stopping));
    },
  );
}

interface FollowQuery {
  readonly follow: boolean;
  readonly slow?: string;
  readonly from?: string;
  readonly duration?: string;
  readonly packets?: number;
}

function limitsOf(query: FollowQuery): FollowLimits {
  for (const parameter of ['slow', 'from', 'duration', 'packets'] as const) {
    if (query.follow || query[parameter] === undefined) continue;
    const detail = `${parameter} is for captures that follow; expected follow=true beside it`;
    throw new Problem('RINGSIDE_E_REQUEST', detail, { errors: [{ pointer: `querystring/${parameter}`, detail }] });
  }
  const { packets = Number.POSITIVE_INFINITY, duration } = query;
  const durationMs = duration === undefined ? Number.POSITIVE_INFINITY : Number(duration.replace(/s$/, '')) * 1000;
  return { packets, durationMs };
}

function openCapture<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (error instanceof EventFilterError) throw filterProblem(error);
    if (!(error instanceof UnknownPointError)) throw error;
    const fault = { pointer: 'querystring/points', detail: error.message, expected: error.valid.join(', ') };
    throw new Problem('RINGSIDE_E_REQUEST', error.message, { errors: [fault] });
  }
}
