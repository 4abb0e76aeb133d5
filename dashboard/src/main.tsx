import { render } from "preact";
import { App } from "./app";
import "./style/base.css";
import "./style/events.css";
import "./style/sheets.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
