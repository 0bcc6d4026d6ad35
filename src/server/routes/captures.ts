/** /v1/topologies/{t}/capture.pcapng: what has been recorded, for Wireshark. */
import { type CaptureOptions, captureChunks, UnknownPointError } from '../../readers/capture.ts';
import { commaList } from '../../readers/glob.ts';
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
        summary: 'Downloads the recorded hops as pcapng',
        description:
          'What is held in the recorder’s rings when the download begins. While traffic runs at full speed the rings go ' +
          'on and overtake a slow download: rows that are lost so are counted in the interface statistics at the end of the ' +
          'file. Pause the clock first where nothing may be missing.',
        params: TopologyPath,
        querystring: CaptureQuery,
        response: {
          200: media('A pcapng file, one interface for each hop.', { 'application/x-pcapng': {} }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_WORLD_FAILED', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    async (request, reply) => {
      const { view, points, snaplen } = request.query;
      const hosted = registry.get(request.params.topology);
      const options: CaptureOptions = {
        view,
        application: `Ringside ${VERSION}`,
        ...(points === undefined ? {} : { points: commaList(points) }),
        ...(snaplen === undefined ? {} : { snaplen }),
      };
      const chunks = openCapture(() => captureChunks(hosted.heldWorld().openReader(), options));
      streams.takeFor(reply);
      reply.header('content-disposition', `attachment; filename="${hosted.name}-${view}.pcapng"`);
      return sendStream(reply.type('application/x-pcapng'), streamOf(chunks, stopping));
    },
  );
}

function openCapture<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof UnknownPointError)) throw error;
    const fault = { pointer: 'querystring/points', detail: error.message, expected: error.valid.join(', ') };
    throw new Problem('RINGSIDE_E_REQUEST', error.message, { errors: [fault] });
  }
}
