import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { describeStore } from './contract.ts';

describeStore('MemoryStore', () =>
  Promise.resolve({ store: openMemoryStore(), cleanup: () => Promise.resolve() }),
);
