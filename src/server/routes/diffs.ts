/** /v1/diffs: two runs run again and compared. */
import type { Static } from 'typebox';
import { diffJobs } from '../../fleet/diff-jobs.ts';
import type { JobLimits } from '../../fleet/queue.ts';
import type { JobSpec } from '../../lab/job/job.ts';
import { diffText } from '../../readers/diff/diff-text.ts';
import type { ExperimentRegistry } from '../experiments/experiment-registry.ts';
import { invalid, notFound, Problem } from '../problem.ts';
import { BODY, media, problems } from '../responses.ts';
import { DiffQuery, DiffRequest, DiffSchema } from '../schemas/diff.ts';
import { ref } from '../schemas/reference.ts';
import type { App, Services } from '../services.ts';
import { addTextParsers } from '../topology-body.ts';

/** Comparisons at a time: each is a thread with two worlds. */
const MOST_AT_A_TIME = 2;
const LIMITS: JobLimits = { memory: 1024 * 2 ** 20, wallSeconds: 60 };

export function addDiffRoutes(app: App, { experiments }: Services): void {
  addTextParsers(app);
  let running = 0;

  app.post(
    '/v1/diffs',
    {
      schema: {
        operationId: 'diffRuns',
        tags: ['experiments'],
        summary: 'Compares two runs',
        description:
          'Both are run again, side by side: what went in, the first event in which they part, what each hop costs in either, exits and copies that appeared or went. JSON or YAML.',
        querystring: DiffQuery,
        body: ref(DiffRequest),
        response: {
          200: media('What differs.', { 'application/json': ref(DiffSchema), 'text/plain': { type: 'string' } }),
          ...problems(
            ...BODY,
            'RINGSIDE_E_NOT_FOUND',
            'RINGSIDE_E_LIMIT',
            'RINGSIDE_E_TOO_MANY',
            'RINGSIDE_E_UNAVAILABLE',
          ),
        },
      },
    },
    async (request, reply) => {
      const left = jobOf(experiments, request.body.left, '/left');
      const right = jobOf(experiments, request.body.right, '/right');
      if (running >= MOST_AT_A_TIME)
        throw new Problem('RINGSIDE_E_TOO_MANY', `${running} comparisons are made already; wait for one`);
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      running++;
      try {
        const answer = await diffJobs({ left, right, limits: LIMITS }, gone.signal);
        if (!answer.ok) throw problemOf(answer.problem);
        if (request.query.format === 'text') return reply.type('text/plain; charset=utf-8').send(diffText(answer.diff));
        return answer.diff;
      } finally {
        running--;
      }
    },
  );
}

function problemOf({ code, detail }: { readonly code: string; readonly detail: string }): Problem {
  if (code === 'RINGSIDE_E_LIMIT' || code === 'RINGSIDE_E_UNAVAILABLE') return new Problem(code, detail);
  return new Problem('RINGSIDE_E_INTERNAL', detail);
}

function jobOf(experiments: ExperimentRegistry, side: Static<typeof DiffRequest>['left'], at: string): JobSpec {
  const { experiment, run, template, seed } = side;
  if ((template === undefined) === (experiment === undefined))
    throw invalid(at, 'neither or both of `experiment` and `template` are given', 'one of them');
  const job = template === undefined ? runOf(experiments, experiment!, run, at) : planned();
  if (job.measure !== undefined) throw invalid(at, 'a measurement is many runs', 'a run of traffic');
  return job;

  function planned(): JobSpec {
    if (run !== undefined) throw invalid(`${at}/run`, 'run is for experiments', 'the field to be left out');
    try {
      return experiments.single({ template, ...(seed === undefined ? {} : { seed }) }).job;
    } catch (error) {
      if (!(error instanceof Problem) || error.extras.errors === undefined) throw error;
      const errors = error.extras.errors.map((fault) => ({ ...fault, pointer: at + fault.pointer }));
      throw new Problem(error.code, error.message, { errors });
    }
  }
}
function runOf(experiments: ExperimentRegistry, id: string, run: number | undefined, at: string): JobSpec {
  const { plan } = experiments.get(id);
  if (run === undefined) throw invalid(`${at}/run`, 'it is missing', `the number of a run, at most ${plan.runs}`);
  if (run > plan.runs) throw notFound(`${id} has ${plan.runs} runs`);
  if (plan.skipped.has(plan.combinationOf(run)))
    throw invalid(`${at}/run`, 'its combination cannot be built', 'another');
  return plan.run(run).job;
}
