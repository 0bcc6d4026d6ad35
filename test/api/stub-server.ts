/** The server with the stub engine, as a process of its own that a test can send signals to. */
import { serve } from '../../src/server/serve.ts';
import { readSettings } from '../../src/server/settings.ts';

await serve({ settings: readSettings(process.env), engine: new URL('./stub-engine.ts', import.meta.url) });
