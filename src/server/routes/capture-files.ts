/** /v1/topologies/{t}/captures: captures that a thread of their own writes to disk, and what can be read of them. */
import { Type } from 'typebox';
import { specOf } from '../captures/capture-check.ts';
import { allFilesBytes, fileBytes, rangeOf } from '../captures/capture-download.ts';
import type { CaptureFile } from '../captures/capture-job.ts';
import { findCapturedFrame } from '../captures/captured-frame.ts';
import type { DiskCapture } from '../captures/disk-capture.ts';
import { pageOfList } from '../pages.ts';
import { notFound } from '../problem.ts';
import { media, problems } from '../responses.ts';
import {
  CapturedFrame,
  CaptureFiles,
  CapturePage,
  CapturePatch,
  CaptureRequest,
  CaptureSchema,
} from '../schemas/capture-file.ts';
import { CaptureFilePath, CaptureFramePath, CapturePath, PageQuery, TopologyPath } from '../schemas/common.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';

const TAG = ['recording'];
const shown = media('The capture.', { 'application/json': ref(CaptureSchema) });
const pcapng = media('pcapng.', { 'application/x-pcapng': {} });

export function addCaptureFileRoutes(app: App, { registry, captures, stopping, streams }: Services): void {
  const find = (params: { topology: string; capture: string }): DiskCapture =>
    captures.get(registry.get(params.topology).name, params.capture);

  app.get(
    '/v1/topologies/:topology/captures',
    {
      schema: {
        operationId: 'listCaptures',
        tags: TAG,
        summary: 'Lists the captures on disk',
        params: TopologyPath,
        querystring: PageQuery,
        response: {
          200: media('A page of captures.', { 'application/json': ref(CapturePage) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => {
      const { name } = registry.get(request.params.topology);
      return pageOfList(captures.list(name).map(captureAnswer), request.query);
    },
  );

  app.post(
    '/v1/topologies/:topology/captures',
    {
      schema: {
        operationId: 'createCapture',
        tags: TAG,
        summary: 'Starts a capture to disk',
        description:
          'A thread of its own follows the recorder and writes files to the data folder, until a condition of `stop` holds, ' +
          'the state is set to STOPPED, or the world is deleted or rebuilt. Files survive a restart; after a crash every ' +
          'whole block is there. The captures of a topology are deleted with it.',
        params: TopologyPath,
        body: ref(CaptureRequest),
        response: {
          201: {
            description: 'The capture has been started.',
            headers: {
              location: Type.String({
                description: 'Its address.',
                examples: ['/v1/topologies/t1/captures/capture-1'],
              }),
            },
            content: { 'application/json': { schema: ref(CaptureSchema) } },
          },
          ...problems(
            'RINGSIDE_E_SYNTAX',
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_EXISTS',
            'RINGSIDE_E_WORLD_FAILED',
            'RINGSIDE_E_TOO_LARGE',
            'RINGSIDE_E_MEDIA_TYPE',
            'RINGSIDE_E_VALIDATION',
            'RINGSIDE_E_TOO_MANY',
            'RINGSIDE_E_STORAGE',
          ),
        },
      },
    },
    async (request, reply) => {
      const hosted = registry.get(request.params.topology);
      const world = hosted.livingWorld();
      const capture = captures.create(hosted, world, request.body.name, specOf(request.body, world));
      const location = `/v1/topologies/${hosted.name}/captures/${capture.id}`;
      return reply.code(201).header('location', location).send(captureAnswer(capture));
    },
  );

  app.get(
    '/v1/topologies/:topology/captures/:capture',
    {
      schema: {
        operationId: 'getCapture',
        tags: TAG,
        summary: 'Shows a capture',
        params: CapturePath,
        response: { 200: shown, ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request) => captureAnswer(find(request.params)),
  );

  app.patch(
    '/v1/topologies/:topology/captures/:capture',
    {
      schema: {
        operationId: 'updateCapture',
        tags: TAG,
        summary: 'Stops a capture',
        description: 'Answers when its files are complete. One that has ended is answered as it is.',
        params: CapturePath,
        body: ref(CapturePatch),
        response: {
          200: shown,
          ...problems(
            'RINGSIDE_E_SYNTAX',
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_TOO_LARGE',
            'RINGSIDE_E_MEDIA_TYPE',
            'RINGSIDE_E_VALIDATION',
          ),
        },
      },
    },
    async (request) => {
      const capture = find(request.params);
      await captures.stop(capture);
      return captureAnswer(capture);
    },
  );

  app.delete(
    '/v1/topologies/:topology/captures/:capture',
    {
      schema: {
        operationId: 'deleteCapture',
        tags: TAG,
        summary: 'Deletes a capture with its files',
        params: CapturePath,
        response: { 204: { description: 'Deleted.' }, ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request, reply) => {
      await captures.remove(find(request.params));
      return reply.code(204).send();
    },
  );

  app.get(
    '/v1/topologies/:topology/captures/:capture/capture.pcapng',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'downloadCaptureOnDisk',
        tags: TAG,
        summary: 'Downloads all files of a capture as one',
        params: CapturePath,
        response: { 200: pcapng, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_TOO_MANY') },
      },
    },
    async (request, reply) => {
      const capture = find(request.params);
      const bytes = await allFilesBytes(capture.folder, capture.progress.files);
      streams.takeFor(reply);
      const name = `${capture.topology}-${capture.id}.pcapng`;
      reply.header('content-disposition', `attachment; filename="${name}"`).type('application/x-pcapng');
      return sendStream(reply, streamOf(bytes, stopping));
    },
  );

  app.get(
    '/v1/topologies/:topology/captures/:capture/files',
    {
      schema: {
        operationId: 'listCaptureFiles',
        tags: TAG,
        summary: 'Lists the files of a capture',
        params: CapturePath,
        response: {
          200: media('The files.', { 'application/json': ref(CaptureFiles) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => ({ items: find(request.params).progress.files.map(fileAnswer) }),
  );

  app.get(
    '/v1/topologies/:topology/captures/:capture/files/:file',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'downloadCaptureFile',
        tags: TAG,
        summary: 'Downloads a file of a capture, or a range of it',
        params: CaptureFilePath,
        response: {
          200: pcapng,
          206: media('The range that was asked for.', { 'application/x-pcapng': {} }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_RANGE', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    async (request, reply) => {
      const capture = find(request.params);
      const file = capture.progress.files.find((f) => f.name === request.params.file);
      if (file === undefined) throw notFound(`Capture '${capture.id}' has no file '${request.params.file}'`);
      const range = rangeOf(request.headers.range, file.bytes);
      const part = range ?? { start: 0, end: file.bytes - 1 };
      const bytes = await fileBytes(capture.folder, file, part);
      streams.takeFor(reply);
      const name = `${capture.topology}-${capture.id}-${file.name}`;
      reply
        .code(range === null ? 200 : 206)
        .type('application/x-pcapng')
        .header('accept-ranges', 'bytes')
        .header('content-length', part.end + 1 - part.start)
        .header('content-disposition', `attachment; filename="${name}"`);
      if (range !== null) reply.header('content-range', `bytes ${range.start}-${range.end}/${file.bytes}`);
      return sendStream(reply, streamOf(bytes, stopping));
    },
  );

  app.get(
    '/v1/topologies/:topology/captures/:capture/frames/:frame',
    {
      schema: {
        operationId: 'getCapturedFrame',
        tags: TAG,
        summary: 'Shows the rows of a frame in a capture',
        description: 'Found by the index beside each file, also long after the recorder has overwritten the frame.',
        params: CaptureFramePath,
        response: {
          200: media('The frame.', { 'application/json': ref(CapturedFrame) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => {
      const capture = find(request.params);
      const found = await findCapturedFrame(capture.folder, capture.progress.files, request.params.frame);
      if (found.hops.length > 0) return found;
      throw notFound(`Capture '${capture.id}' has no row of frame ${request.params.frame}`);
    },
  );
}

function fileAnswer({ firstNs, lastNs, ...file }: CaptureFile) {
  return { ...file, startSeconds: firstNs / 1e9, endSeconds: lastNs / 1e9 };
}

function captureAnswer(capture: DiskCapture) {
  const { progress, spec } = capture;
  const { epochNs: _, ...asked } = spec;
  const { trigger } = progress;
  return {
    id: capture.id,
    topology: capture.topology,
    state: capture.state,
    createdAt: capture.createdAt,
    endedAt: capture.endedAt,
    end: progress.end,
    ...asked,
    files: progress.files.map(fileAnswer),
    bytes: progress.files.reduce((sum, file) => sum + file.bytes, 0),
    packets: progress.packets,
    removedFiles: progress.removedFiles,
    lost: { events: progress.lostEvents, packets: progress.lostPackets },
    triggered: trigger === null ? null : { event: trigger.event, virtualTimeSeconds: trigger.ns / 1e9 },
  };
}
