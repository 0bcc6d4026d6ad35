/** docs/cli.md: its commands, exactly as printed, in a folder that is like a clone of the repository, beside a server. */
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ROOT } from '../tools/source.ts';
import { testPrinted } from './printed-commands.ts';

testPrinted(
  'docs/cli.md',
  'the command line works as printed',
  ['npx'],
  (printed) => {
    const { said } = printed;
    expect(printed.after('--junit demo.xml'), said).toMatch(/^ok {3}perFrame\.exitsUserspace == 0$/m);
    expect(printed.file('demo.xml').toString(), said).toContain('failures="0"');
    expect(printed.after('interrupts < 0.001'), said).toMatch(/^FAIL .*\(runs\[0\]\.perFrame\.interrupts is 0\.\d+\)/m);
    const slow = JSON.parse(printed.file('slow.json').toString()) as { result: { profile: { name: string } } };
    expect(slow.result.profile.name).toBe('broadwell-3.6');
    expect(printed.after('--out whole'), said).toMatch(/^12 runs succeeded, 0 failed$/m);
    expect(printed.after('experiment merge'), said).toMatch(/^3 parts are one in merged$/m);
    expect(printed.after('JOB_COMPLETION_INDEX'), said).toMatch(
      /^part 2 of 3: 4 runs succeeded, 0 failed, 4 of them were there$/m,
    );
    expect(printed.after('--no-wait') || printed.after('--csv'), said).toMatch(
      /^experiment-1 \(backends\) {2}SUCCEEDED {2}100 % of 12 runs/m,
    );
    expect(printed.file('results.csv').toString().split('\r\n').length).toBe(14);
    expect(JSON.parse(printed.file('backends.json').toString())).toMatchObject({ repetitions: 3 });
    expect(JSON.parse(printed.file('openapi.json').toString())).toMatchObject({ openapi: '3.1.0' });
  },
  {
    prepare: (folder) => {
      for (const name of ['package.json', 'node_modules', 'src']) symlinkSync(join(ROOT, name), join(folder, name));
    },
    rewrite: (text, port) => text.replaceAll('http://localhost:8080', `http://127.0.0.1:${port}`),
  },
);
