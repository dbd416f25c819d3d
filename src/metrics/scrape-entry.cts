/** The thread that collects metrics. CommonJS: see worker/entry.cts. */
import type { ScrapeTask, Scraped } from './scrape.js' with { 'resolution-mode': 'import' };

const run = async (task: ScrapeTask): Promise<Scraped> => (await import('./scrape.js')).scrape(task);
export = run;
