/** The API document as the text that is committed. */
import { NO_NATS_FILES } from '../fleet/nats-files.ts';
import { buildApp } from './app.ts';
import { DEFAULT_JOB_HEAP, DEFAULT_LIMITS } from './settings.ts';

export async function openapiText(): Promise<string> {
  const ringside = await buildApp({
    settings: {
      host: '127.0.0.1',
      port: 0,
      dataDir: null,
      ovsHost: '127.0.0.1',
      token: null,
      allowedHosts: [],
      workers: 1,
      jobThreads: 2,
      jobHeap: DEFAULT_JOB_HEAP,
      natsUrl: null,
      natsFiles: NO_NATS_FILES,
      natsPrefix: 'ringside',
      limits: DEFAULT_LIMITS,
    },
  });
  try {
    return `${JSON.stringify(ringside.app.swagger(), null, 2)}\n`;
  } finally {
    await ringside.close();
  }
}
