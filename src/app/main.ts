/** The page's entry: theme, elements, session. Everything else is reached from here. */
import { installPageApi } from '../session/page-api.ts';
import { createSession } from '../session/session.ts';
import './cotrain-app.ts';
import { installTheme } from './theme.ts';

installTheme();

const app = document.querySelector('cotrain-app');
if (app === null) throw new Error('index.html has no <cotrain-app>');
const session = createSession();
installPageApi(session);
app.controller = session;
