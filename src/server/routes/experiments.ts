/** /v1/experiments: many runs of a template, their progress and what they come to. */
import { Type } from 'typebox';
import {
  csvOf,
  experimentView,
  listedView,
  resultLines,
  runDetail,
  runView,
  summaryView,
} from '../experiments/experiment-view.ts';
import { negotiate } from '../negotiation.ts';
import { cursorKey, cursorOf, pageOfList } from '../pages.ts';
import { notFound, Problem } from '../problem.ts';
import { BODY, media, problems } from '../responses.ts';
import { PageQuery } from '../schemas/common.ts';
import {
  CsvQuery,
  ExperimentPage,
  ExperimentPath,
  ExperimentResults,
  ExperimentRunDetail,
  ExperimentRunPage,
  ExperimentRunPath,
  ExperimentSchema,
  ExperimentSummary,
  ExperimentTemplate,
  RunsQuery,
  SummaryQuery,
} from '../schemas/experiment.ts';
import { ref } from '../schemas/reference.ts';
import { WaitQuery } from '../schemas/traffic.ts';
import type { App, Services } from '../services.ts';
import { sendStream, streamOf } from '../streaming.ts';
import { addTextParsers } from '../topology-body.ts';
import { turn } from '../turns.ts';
import { waitOf } from '../waiting.ts';

/** Time that the event loop gives to a list at once, ms. */
const STEP_MS = 5;
const JSON_TYPE = 'application/json';
const NDJSON = 'application/x-ndjson';
const experiment = media('The experiment.', { [JSON_TYPE]: ref(ExperimentSchema) });

export function addExperimentRoutes(app: App, { experiments, streams, stopping }: Services): void {
  addTextParsers(app);
  const { store } = experiments;

  app.get(
    '/v1/experiments',
    {
      schema: {
        operationId: 'listExperiments',
        tags: ['experiments'],
        summary: 'Lists the experiments',
        querystring: PageQuery,
        response: { 200: media('A page of experiments.', { [JSON_TYPE]: ref(ExperimentPage) }), ...problems() },
      },
    },
    async (request) => {
      const { items, next } = pageOfList(experiments.all(), request.query);
      return { items: items.map(listedView), next };
    },
  );

  app.post(
    '/v1/experiments',
    {
      schema: {
        operationId: 'startExperiment',
        tags: ['experiments'],
        summary: 'Starts an experiment',
        description:
          'Runs are counted first; then every combination is checked, its document and its traffic. What is refused has started nothing. JSON or YAML.',
        body: ref(ExperimentTemplate),
        response: {
          201: {
            description: 'The experiment runs.',
            headers: {
              location: Type.String({
                description: 'Address of the experiment.',
                examples: ['/v1/experiments/experiment-1'],
              }),
            },
            content: { [JSON_TYPE]: { schema: ref(ExperimentSchema) } },
          },
          ...problems(...BODY, 'RINGSIDE_E_LIMIT', 'RINGSIDE_E_TOO_MANY', 'RINGSIDE_E_STORAGE'),
        },
      },
    },
    async (request, reply) => {
      const started = await experiments.create(request.body);
      return reply.code(201).header('location', `/v1/experiments/${started.id}`).send(experimentView(started));
    },
  );

  app.get(
    '/v1/experiments/:experiment',
    {
      exposeHeadRoute: false,
      schema: {
        operationId: 'getExperiment',
        tags: ['experiments'],
        summary: 'Shows an experiment; waits for its end if asked to',
        params: ExperimentPath,
        querystring: WaitQuery,
        response: { 200: experiment, ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request, reply) => {
      const found = experiments.get(request.params.experiment);
      const { ms, gone } = waitOf(request.query.wait, reply);
      await found.over(ms, stopping.signal, gone);
      return experimentView(found);
    },
  );

  app.delete(
    '/v1/experiments/:experiment',
    {
      schema: {
        operationId: 'deleteExperiment',
        tags: ['experiments'],
        summary: 'Cancels and removes an experiment',
        description: 'With its runs, and the results that no other experiment has.',
        params: ExperimentPath,
        response: { 204: { description: 'It is gone.' }, ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_STORAGE') },
      },
    },
    async (request, reply) => {
      await experiments.remove(request.params.experiment);
      return reply.code(204).send();
    },
  );

  app.post(
    '/v1/experiments/:experiment/cancel',
    {
      schema: {
        operationId: 'cancelExperiment',
        tags: ['experiments'],
        summary: 'Cancels an experiment',
        description: 'Results that are there stay. An experiment that has ended is answered as it is.',
        params: ExperimentPath,
        response: { 200: experiment, ...problems('RINGSIDE_E_NOT_FOUND') },
      },
    },
    async (request) => experimentView(experiments.cancel(request.params.experiment)),
  );

  app.get(
    '/v1/experiments/:experiment/runs',
    {
      schema: {
        operationId: 'listExperimentRuns',
        tags: ['experiments'],
        summary: 'Lists the runs of an experiment',
        params: ExperimentPath,
        querystring: RunsQuery,
        response: {
          200: media('A page of runs.', { [JSON_TYPE]: ref(ExperimentRunPage) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => {
      const found = experiments.get(request.params.experiment);
      const { limit, cursor, state } = request.query;
      const key = cursorKey(cursor);
      if (!/^\d{0,15}$/.test(key)) throw new Problem('RINGSIDE_E_REQUEST', `'cursor' is not a cursor of this list`);
      const items = [];
      let run = Math.max(1, Number(key));
      let until = performance.now() + STEP_MS;
      for (; run <= found.plan.runs && items.length < limit; run++) {
        if (performance.now() > until) {
          await turn();
          until = performance.now() + STEP_MS;
        }
        if (state !== undefined && found.stateOf(run) !== state) continue;
        items.push(runView(found, run, store.run(found.number, run)));
      }
      return { items, next: run <= found.plan.runs ? cursorOf(String(run)) : null };
    },
  );

  app.get(
    '/v1/experiments/:experiment/runs/:run',
    {
      schema: {
        operationId: 'getExperimentRun',
        tags: ['experiments'],
        summary: 'Shows a run with its job and its result',
        params: ExperimentRunPath,
        response: {
          200: media('The run.', { [JSON_TYPE]: ref(ExperimentRunDetail) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => {
      const found = experiments.get(request.params.experiment);
      const { run } = request.params;
      if (run > found.plan.runs) throw notFound(`${found.id} has ${found.plan.runs} runs`);
      return runDetail(found, run, store);
    },
  );

  app.get(
    '/v1/experiments/:experiment/summary',
    {
      schema: {
        operationId: 'getExperimentSummary',
        tags: ['experiments'],
        summary: 'Means of the metrics by axis and by combination, with confidence intervals',
        params: ExperimentPath,
        querystring: SummaryQuery,
        response: {
          200: media('The summary.', { [JSON_TYPE]: ref(ExperimentSummary) }),
          ...problems('RINGSIDE_E_NOT_FOUND'),
        },
      },
    },
    async (request) => summaryView(experiments.get(request.params.experiment), store, request.query),
  );

  app.get(
    '/v1/experiments/:experiment/results.csv',
    {
      schema: {
        operationId: 'getExperimentCsv',
        tags: ['experiments'],
        summary: 'Runs that have ended as CSV: axes and metrics in columns',
        params: ExperimentPath,
        querystring: CsvQuery,
        response: {
          200: media('The runs.', { 'text/csv': { type: 'string' } }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    (request, reply) => {
      const found = experiments.get(request.params.experiment);
      const lines = csvOf(found, store, request.query.metrics);
      streams.takeFor(reply);
      reply.type('text/csv; charset=utf-8').header('content-disposition', `attachment; filename="${found.id}.csv"`);
      return sendStream(reply, streamOf(lines, stopping));
    },
  );

  app.get(
    '/v1/experiments/:experiment/results',
    {
      schema: {
        operationId: 'getExperimentResults',
        tags: ['experiments'],
        summary: 'Runs that have ended with their results, as JSON or as lines of JSON',
        params: ExperimentPath,
        response: {
          200: media('The runs.', {
            [JSON_TYPE]: ref(ExperimentResults),
            [NDJSON]: { type: 'string' },
          }),
          ...problems('RINGSIDE_E_NOT_FOUND', 'RINGSIDE_E_NOT_ACCEPTABLE', 'RINGSIDE_E_TOO_MANY'),
        },
      },
    },
    (request, reply) => {
      const found = experiments.get(request.params.experiment);
      const type = negotiate(request, [JSON_TYPE, NDJSON]);
      streams.takeFor(reply);
      reply.type(type);
      return sendStream(reply, streamOf(pieces(type === NDJSON), stopping));

      async function* pieces(lines: boolean): AsyncGenerator<Uint8Array> {
        if (!lines) yield Buffer.from('{"items":[');
        let first = true;
        for await (const texts of resultLines(found, store)) {
          if (texts.length === 0) continue;
          yield Buffer.from(lines ? `${texts.join('\n')}\n` : `${first ? '' : ','}${texts.join(',')}`);
          first = false;
        }
        if (!lines) yield Buffer.from(']}');
      }
    },
  );
}
