/** /v1/topologies/{t}/replays: the frames of a pcap or pcapng body, sent at a point. */
import { parseCapture } from '../../lab/capture-file.ts';
import { invalid, Problem } from '../problem.ts';
import { TopologyPath } from '../schemas/common.ts';
import { ReplayQuery } from '../schemas/traffic.ts';
import type { App, Services } from '../services.ts';
import { startRun } from '../traffic-runs.ts';
import { accepted, runAddress, runRefusals } from './traffic.ts';

const CAPTURE_TYPES = ['application/vnd.tcpdump.pcap', 'application/x-pcapng', 'application/octet-stream'];
/** 1500 bytes of payload and the Ethernet header. */
const LONGEST_FRAME = 1514;

export function addReplayRoutes(app: App, { registry, settings }: Services): void {
  const { capture: bodyLimit, runs } = settings.limits;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(CAPTURE_TYPES, { parseAs: 'buffer', bodyLimit }, (_request, body, done) => done(null, body));

  app.post(
    '/v1/topologies/:topology/replays',
    {
      bodyLimit,
      schema: {
        operationId: 'startReplay',
        tags: ['traffic'],
        summary: 'Replays a pcap or pcapng file',
        params: TopologyPath,
        querystring: ReplayQuery,
        body: { content: Object.fromEntries(CAPTURE_TYPES.map((type) => [type, { schema: {} }])) },
        response: { 202: accepted, ...runRefusals },
      },
    },
    async (request, reply) => {
      const { at, speed } = request.query;
      const body: unknown = request.body;
      const hosted = registry.get(request.params.topology);
      hosted.livingWorld();
      if (!Buffer.isBuffer(body)) throw invalid('', 'there is no body', 'a pcap or pcapng file');
      const { bytes, lengths, times, skipped, timesRaised } = readCapture(body);
      const spec = { kind: 'replay' as const, at, bytes, lengths, times: speed === 'max' ? null : times };
      const result = await startRun(hosted, runs, spec);
      const capture = { frames: lengths.length, skipped, timesRaised };
      return reply
        .code(202)
        .header('location', runAddress(hosted.name, result.id))
        .send({ ...result, capture });
    },
  );
}

function readCapture(body: Buffer) {
  const parsed = parseCapture(body, { maxFrameBytes: LONGEST_FRAME });
  if (!parsed.ok) throw new Problem('RINGSIDE_E_VALIDATION', `At byte ${parsed.offset}: ${parsed.detail}`);
  if (parsed.lengths.length > 0) return parsed;
  const reasons = Object.entries(parsed.skipped).filter(([, packets]) => packets > 0);
  const why = reasons.map(([reason, packets]) => `${packets} ${reason}`).join(', ');
  throw new Problem(
    'RINGSIDE_E_VALIDATION',
    `The capture has no frame that can be sent${why === '' ? '' : `: ${why}`}`,
  );
}
