/** Writes the document of the event WebSocket to asyncapi/asyncapi.json. The file is committed; a test fails when it is not up to date. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { asyncapiText } from './events/event-asyncapi.ts';

const file = new URL('../../asyncapi/asyncapi.json', import.meta.url);
mkdirSync(new URL('.', file), { recursive: true });
writeFileSync(file, asyncapiText());
