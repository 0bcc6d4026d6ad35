/** docs/experiments.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { expect } from 'vitest';
import { testPrinted } from './printed-commands.ts';

type Json = ReturnType<typeof JSON.parse>;

testPrinted('docs/experiments.md', 'experiments asked for with curl work as printed', [], (printed) => {
  const { said } = printed;
  const objects = (command: string): Json[] =>
    printed
      .after(command)
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Json);
  const [experiment] = objects('backends.yaml <<');
  expect(experiment.state, said).toBe('SUCCEEDED');
  expect(experiment.runs, said).toMatchObject({ total: 12, succeeded: 12 });
  const [summary] = objects('/summary?metrics');
  const [backend] = summary.axes;
  const copies = backend.values.map((value: Json) => value.metrics['/runs/0/perFrame/copies'].mean);
  expect(copies[0], said).toBeGreaterThan(copies[1]);
  expect(summary.combinations.length, said).toBe(4);
  const results = printed.after('results.csv').trim().split('\n');
  expect(results[0], said).toMatch(/^run,combination,repetition,seed,state,backend,frameSize,/);
  expect(results.filter((line) => line.includes(',SUCCEEDED,')).length, said).toBe(12);
  expect(printed.file('runs.ndjson').toString().trimEnd().split('\n').length, said).toBe(12);
  const diff = printed.after('/v1/diffs');
  expect(diff, said).toMatch(/^ {2}\/document\/hosts\/0\/guests\/0\/nics\/0\/backend: "virtio-net" \| "vhost-net"$/m);
  expect(diff, said).toMatch(/^Delivered frames: 2000 \| 2000$/m);
  expect(diff, said).toMatch(/^ {2}changed {3}packet\.copy: 3\.\d+ \| 2\.\d+$/m);
  const refused = printed.after('repetitions: 1000000');
  expect(refused, said).toMatch(/"detail":"The experiment's 1000000 runs .* 100000 /);
  expect(refused, said).toMatch(/axis ring, value 300, at .*queueSize: 300 is not a power of two/);
  expect(printed.after('precise.yaml <<'), said).toMatch(/"notNeeded":3[0-9][0-9],"skipped":0,"reused":12/);
  expect(printed.after('/cancel'), said).toMatch(/"state":"SUCCEEDED"\s+"id":"experiment-1"\s*$/);
  expect(printed.after('ringside_experiment_axis_mean'), said).toContain('axis="backend",value="vhost-net"');
});
