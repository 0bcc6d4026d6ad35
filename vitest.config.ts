import { defineConfig } from 'vitest/config';

// `npm run soak` asks for full counts, which take as long as they take.
const full = process.env['RINGSIDE_FULL'] === '1';
const limit = full ? 3_600_000 : 120_000;

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Worlds reserve shared memory and peers take ports: few files at a time, on machines of two cores.
    maxWorkers: 2,
    testTimeout: limit,
    hookTimeout: limit,
    reporters: ['default', './test/tools/tally-reporter.ts'],
  },
});
