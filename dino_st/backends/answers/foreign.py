"""What models say instead of a sentence, or announce it with, in other languages than English, as patterns."""

from __future__ import annotations

from dino_st.backends.answers.rules import Rule, pattern


def _refusal(sorry: str, cannot: str, reword: str, help_: str, work: str, about: str) -> str:
    """A refusal with the verb before its object: not able to reword, to help, or to work on the request."""
    return rf"""(?:(?:{sorry})[\s,.;:!…،।]*(?:\w{{2,5}}~)?)?(?:{cannot})\b.{{0,40}}?(?:\b(?:{reword})
        |\b(?:{help_})\W*\Z|\b(?:{help_}|{work})\b.{{0,30}}(?:{about}))"""


_OF_ROMANCE = (
    _refusal(
        "(?:je~suis~)?(?:vraiment~|sincèrement~)?(?:désolée?|navrée?)|malheureusement|pardon|excusez-moi|je~regrette",
        """je~(?:ne~(?:peux|puis|pourrai|saurais|suis~pas~(?:en~mesure|capable|autorisée?))|suis~(?:incapable
        |dans~l['’]incapacité))""",
        "reformuler|réécrire|paraphraser",
        "(?:vous~|t['’])?(?:aider|assister)",
        "traiter|répondre|accéder|satisfaire|fournir|générer|faire|effectuer|écrire|donner~suite|continuer|produire",
        r"""\b(?:cette|votre|ta)~(?:demande|requête|phrase|tâche)\b|\b(?:ce|votre|ton)~(?:contenu|texte)\b
        |\b(?:cela|ça|ceci)\W*\Z""",
    ),
    _refusal(
        """lamentablemente|desafortunadamente|desgraciadamente|por~desgracia|lo~(?:siento|lamento)|disculp[ae]|perdón
        |me~temo~que""",
        "(?:yo~)?no~(?:puedo|podré|me~es~posible|soy~capaz|estoy~en~condiciones)",
        r"(?:reformular|reescribir|parafrasear)\w*",
        "(?:ayudar|asistir)(?:te|le|les|os|lo|la)?",
        "procesar|responder|cumplir|atender|completar|proporcionar|generar|escribir|hacer|continuar|realizar",
        r"""\b(?:est[ae]|es[ae]|su|tu)~(?:solicitud|petición|frase|oración|tarea|contenido)\b|\b(?:eso|esto|ello)\W*\Z""",
    ),
    _refusal(
        "purtroppo|mi~(?:di)?spiace|(?:sono~)?spiacente|scus[ai](?:mi)?",
        "non~(?:posso|potrò|sono~in~grado|mi~è~possibile|riesco)",
        r"(?:riformular|riscriver|parafrasar)\w*",
        "(?:aiutar|assister)(?:ti|la|le|vi|e)",
        "elaborare|soddisfare|rispondere|completare|fornire|generare|scrivere|fare|procedere|eseguire",
        r"""\b(?:quest[ao]|quell[ao]|(?:la~)?(?:tua|sua))~(?:richiesta|frase|contenuto)\b|\b(?:questo|ciò|quello)\W*\Z""",
    ),
    _refusal(
        "infelizmente|lamento|sinto~muito|desculp[ae]|peço~desculpas?",
        "(?:eu~)?não~(?:posso|consigo|poderei|sou~capaz|estou~em~condições)",
        "reformular|reescrever|parafrasear",
        r"(?:ajud(?:ar|á)|auxiliar)(?:-\w+|~você)?",
        "processar|responder|atender|completar|fornecer|gerar|escrever|fazer|realizar",
        r"""\b(?:n?ess[ae]|n?est[ae]|d?ess[ae]|(?:o~|a~)?(?:seu|sua))~(?:solicitação|pedido|frase|conteúdo|tarefa)\b
        |\b(?:n|d)?(?:isso|isto)\W*\Z""",
    ),
)
_IT_DE = r"""(?:leider|hier(?:bei)?|da(?:bei|mit|ran)?|ihnen|dir|euch|bei|mit|auf|d?ies(?:e[rmns]?)?|das|ihre[rnm]?
    |deine[rnm]?    |anfrage|bitte|satz|inhalt|aufgabe|anliegen|wunsch|weiter)"""
_IT_NL = (
    "(?:helaas|je|jou|u|daar(?:mee|bij)?|hier(?:mee|bij)?|mee|bij|met|deze?|dit|dat|uw|jouw|verzoek|zin|inhoud|verder)"
)
_OF_GERMANIC = (
    rf"""(?:(?:(?:es~)?tut~mir~leid|leider|entschuldig\w+|verzeihung|sorry|ich~bedau[e]?re)[\s,.!]*(?:aber~|doch~)?)?
    (?:(?:{_IT_DE}~){{0,3}}(?:(?:kann|darf|möchte)~ich|ich~(?:kann|darf|möchte))~
      (?:(?:{_IT_DE}~){{0,6}}nicht~(?:{_IT_DE}~){{0,6}}(?:(?:weiter)?helfen|behilflich~sein|unterstützen|dienen|nachkommen
        |bearbeiten|erfüllen|beantworten|entsprechen|ausführen)\W*\Z
      |.{{0,40}}?\bnicht~(?:\w+~){{0,2}}?(?:umformulier|umschreib|paraphrasier|neu~(?:formulier|schreib))\w*))""",
    rf"""(?:(?:helaas|sorry|het~spijt~me|excuses)[\s,.!]*(?:maar~)?)?
    (?:(?:{_IT_NL}~){{0,3}}(?:kan~ik|ik~kan)~
      (?:(?:{_IT_NL}~){{0,6}}niet~(?:{_IT_NL}~){{0,4}}(?:helpen|van~dienst~zijn|verwerken|uitvoeren|beantwoorden|voltooien
        |inwilligen)\W*\Z
      |.{{0,40}}?\bniet~(?:\w+~){{0,2}}?(?:herschrijven|herformuleren|parafraseren)))""",
    r"""(?:(?:tyvärr|förlåt|beklager|desværre|dessverre|u[nd]n?d?skyld|jag~är~ledsen)[\s,.!]*(?:men~)?)?
    (?:kan~j[ae]g|j[ae]g~kan)~(?:\w+~)?(?:inte|ikke)~(?:skriva~om|omformuler\w+|omskriv\w+|parafraser\w*
      |(?:hjälpa|hjælpe|hjelpe)(?:~(?:dig|dem|deg|til))*(?:~med~(?:det(?:ta|te)?|den~(?:här~)?\w+|denne~\w+))?\W*\Z)""",
)
_OF_OTHERS = (
    _refusal(
        "niestety|przepraszam|przykro~mi",
        "nie~(?:mogę|jestem~w~stanie|potrafię)",
        "przeformułować|sparafrazować|przepisać|przeredagować",
        "pomóc(?:~ci|~w~tym)?",
        "spełnić|przetworzyć|odpowiedzieć|wykonać|zrealizować",
        r"\b[wz]~tym\W*\Z|\b(?:te\w+|twoj\w+)~(?:żądani\w+|prośb\w+|zdani\w+|treści\w*)",
    ),
    _refusal(
        "извините|простите|к~сожалению",
        "(?:я~)?не~(?:могу|смогу|в~состоянии|имею~возможности)",
        r"перефразир\w+|переписать|переформулир\w+",
        "помочь(?:~вам|~тебе)?",
        "выполнить|обработать|ответить|удовлетворить|написать|создать|продолжить",
        r"\bс~этим\b|\b(?:эт\w{1,3}|ваш\w*|тво\w+|данн\w+)~(?:запрос\w*|предложени\w*|просьб\w*|текст\w*)",
    ),
    _refusal(
        "maaf|mohon~maaf|sayangnya",
        "saya~(?:tidak|tak)~(?:bisa|dapat|mampu)",
        "menulis~ulang|memparafrasakan|merumuskan~ulang",
        "membantu(?:~anda|mu)?",
        "memenuhi|memproses|menjawab|melakukan",
        r"\b(?:permintaan|kalimat|konten|hal|dengan)~(?:itu|ini|tersebut|anda)\b",
    ),
    _refusal(
        "(?:rất~)?(?:xin~lỗi|tiếc)",
        "tôi~không~thể",
        "viết~lại|diễn~đạt~lại",
        "(?:giúp|hỗ~trợ)(?:~bạn)?",
        "thực~hiện|xử~lý|đáp~ứng|trả~lời",
        r"\b(?:việc|điều|yêu~cầu|câu)~(?:này|đó)",
    ),
    r"""(?:(?:çok~)?(?:üzgünüm|maalesef|özür~dilerim|ne~yazık~ki|kusura~bakma\w*)[\s,.!]*(?:ama~|ancak~|fakat~)?)?
    (?:(?:size~|sana~)?bu(?:nu|na|nunla|~(?:konuda|iste[kğ]\w*|tale[bp]\w*|cümle\w*|içeri[kğ]\w*|metn\w*))~(?:\w+~)?)?
    (?:(?:size~|sana~)?yardımcı~olam|yardım~edem|yerine~getirem|yanıtlayam|yeniden~(?:yazam|ifade~edem|formüle~edem))\w*\W*\Z""",
    r"""(?:(?:عذر[\u064b\u0627]*|آسف[\u064b\u0627]*|أنا~آسف|أعتذر|للأسف|معذرة)[\s,.،!]*(?:و?لكن(?:ني)?~)?)?(?:أنا~)?
    (?:لا~(?:أستطيع|يمكنني)|لن~أتمكن~من|لست~قادر\S*~على|(?:أنا~)?غير~قادر~على)~(?:إعادة~(?:صياغة|كتابة)
      |(?:مساعدت\S+|المساعدة)(?:~(?:في|ب)\S*(?:~\S+){0,3})?\W*\Z
      |(?:تلبية|تنفيذ|معالجة|الإجابة|تقديم|إكمال)~.{0,12}(?:الطلب|طلبك|الجملة|المحتوى))""",
    r"""(?:(?:माफ़?\u093c?~(?:कीजिए|कीजिएगा|करें)|क्षमा~(?:करें|कीजिए)|(?:मुझे~)?खेद~है)[\s,.।!]*(?:लेकिन~|कि~)?)?
    (?:मैं~)?(?:आपकी~|आपके~|इसमें~|इस~|यह~|उसमें~).{0,30}?(?:मदद|सहायता|अनुरोध|वाक्य).{0,20}?नहीं~(?:कर|दे|लिख|बदल)
    ~(?:सक|पा).{0,8}\Z""",
    r"""(?:(?:大変|誠に)?(?:申し訳|すみません|すいません|ごめんなさい|残念ながら)[^、。,]{0,12}[、。,]?)?
    (?:(?:(?:その|この|上の|ご|ご指定の)?(?:リクエスト|要求|依頼|要望|質問|内容|件|文章?|タスク)(?:について|には?|は|を|の))?
      (?:お手伝い|お答え|ご?対応|お応え|ご協力)(?:すること|いた?し)?[はが]?(?:でき(?:ません|かねます|ない)|出来ません|かねます)\W*\Z
    |(?:その|この|上の|ご|ご指定の)(?:リクエスト|要求|依頼|要望|内容|文章?|タスク)(?:には?|は|を|の)
      .{0,6}(?:言い換え|書き換え|書き直|処理|実行|応じ|生成|作成|提供).{0,8}(?:でき|出来|られ|かね)(?:ません|ます|ない))""",
    r"""(?:(?:[很非]?常?抱歉|对不起|對不起|不好意思|很?遗憾)[，,\s]*(?:但是?)?)?我?(?:无法|無法|不能|没办法|没法)(?:[为為给給帮幫][您你])?
    (?:改写|改寫|重写|重寫|复述|改述|释义|(?:帮助|幫助|协助|協助|完成|提供|处理|處理|满足|滿足|执行|執行|生成|响应|回应).{0,6}
      [这這此该該您你].{0,3}(?:请求|請求|要求|句子|句|内容|內容|任务|任務|指令)|(?:帮助|幫助|协助|協助|帮)(?:[您你])?\W*\Z)""",
    r"""(?:(?:죄송|미안)\S*~?)?(?:(?:이|그|해당|그런)~\S+~)?(?:도와\s?드릴|도움을~드릴)~수[가는]?~없.{0,5}\W*\Z
    |(?:(?:죄송|미안)\S*~?)?(?:이|그|해당|요청하신)~(?:문장|요청|내용)\S?~.{0,8}(?:쓸|바꿀|처리할|수행할|재작성할|제공할|응할)~수[가는]?~없""",
)
REFUSAL = pattern("|".join((*_OF_ROMANCE, *_OF_GERMANIC, *_OF_OTHERS)))
"""A refusal at the beginning of a text; what people cannot do for someone or about something else is none."""

_CONSENT = r"""了解(?:いた|致)?しました|了解です|承知(?:いた|致)?しました|かしこまりました|[わ分]かりました
    |もちろん(?:です)?|好的|明白了?|当然(?:可以)?|當然(?:可以)?
    |没问题|收到|了解|알겠습니다|물론(?:입니다|이죠)|네|verstanden|alles~klar|natürlich
    |selbstverständlich|gerne?|klar|in~ordnung
    |bien~sûr|d['’]accord|certainement|entendu|compris|por~supuesto|claro(?:~que~sí)?|desde~luego|entendido|de~acuerdo
    |certo|certamente|va~bene|capito|d['’]accordo|com~certeza|natuurlijk|begrepen|oczywiście|rozumiem|конечно|понятно|хорошо
    |понял[аи]?|tamam|elbette|tabii(?:~ki)?|anladım|حسن[\u064b\u0627]+|بالتأكيد|بالطبع|ठीक~है|ज़?\u093c?रूर|समझ~गया"""
CONSENT = Rule("no answer", pattern(rf"\A\W*+(?:はい[、。\s]*)?(?:{_CONSENT})\W*\Z"), pattern(_CONSENT))
"""Consent alone, where the source sentence does not consent."""

_YES = rf"""{_CONSENT}|sure(?:~thing)?|certainly|of~course|absolutely|gladly|no~problem|got~it|understood
    |(?:with|my)~pleasure|happy~to~help|by~all~means|as~you~wish|definitely
    |ja|(?:aber|sehr|na)~(?:gern|gerne|klar)|sicher|oui|(?:très|fort)~bien|volontiers|avec~plaisir|bien~entendu|voilà|ecco|ok(?:ay|é)?
    |sí|s[iì]|vale|con~(?:mucho~)?gusto|volentieri|naturalmente|sim|com~prazer|tudo~bem|zeker|prima|jasne|tak|dobrze
    |pewnie|да|разумеется|безусловно|ладно|evet|是的?|可以|嗯|好|はい|ええ|물론|예|그럼요?|نعم|हाँ|बिल्कुल"""
_LEAD = rf"(?:(?:はい|네|예)[、,]\s?)?(?:{_YES})"
LEAD = Rule(
    "talk",
    pattern(rf"\A\W*{_LEAD}(?:\s?[,，、،;；]|\s[-–—]{{1,2}}(?=\s))\s?(?!dass\b|que\b)(?=\w)"),
    pattern(
        rf"""\A\Z|(?<!\w)(?:{_YES})(?!\w)|\A\W*+(?:{_YES})|\b(?:cours|sure|certain|clear|doubt|natural|obvious|always|glad|natürlich|sicher
        |klar|évid|natur|cert|segur|sem~dúvida|sin~duda)|[?？]"""
    ),
)
"""Consent before a sentence, where the source sentence neither consents nor asks."""

_SENSE = {
    r"""\b(?:bedeutung|sinn|aussage|inhalt)\b.{0,25}\b(?:erhalten|bleibt|gleich|beibehalten|unverändert|bewahr\w+
      |umgekehrt|identisch)\b[^,]{0,15}\Z
      |,\s(?:mit~anderen~worten|(?:anders|umgekehrt)~(?:gesagt|formuliert|ausgedrückt))\W*\Z""": (
        "bedeut|sinn|aussage|inhalt|ander|umgekehrt"
    ),
    r""",\s.{0,25}\b(?:gard|conserv|préserv|maint|chang|modifi|invers|avec|même|mant(?:ie|e)n|preserv|cambi|invirt|invert|mud|troc
      |altera|con|com|met~behoud)\w*~.{0,15}\b(?:sens|signification|sujet|significado|sentido|significato|senso|sujeto|soggetto
      |sujeito|betekenis)(?:~\w+)?\W*\Z
      |,\s(?:autrement~dit|en~d['’]autres~(?:termes|mots)|en~otras~palabras|dicho~de~otr[oa]~\w+|in~altr[ei]~(?:parole|termini)
      |(?:em|por)~outras~palavras|met~andere~woorden|innymi~słowy|другими~словами|иными~словами)\W*\Z""": (
        "sens|signif|sent[io]|suj|sogg|beteken|autre|otr|altr|outr|ander"
    ),
    r"""[,，、;—–]\s?(?:сохран\w+~(?:\w+~)?смысл\w*|смысл~(?:\w+~)?(?:тот~же|прежний|не~\w+|сохран\w+)|zachowując~\w+|[^,，、。]{0,6}
      (?:意思|含义|含意|意义|语义|句意).{0,4}(?:不变|没变|相同|一样|一致|相反)|换(?:句话说|言之)|意味[はが].{0,6}(?:同じ|変わ|反対|逆).{0,6}
      |[^,]{0,10}의미[는가]?~?.{0,4}(?:같|동일|변하|반대).{0,8})\W*\Z""": "смысл|意|换|의미",
}
SENSE = tuple(Rule("talk", pattern(text), pattern(unless)) for text, unless in _SENSE.items())
"""What was done to the sentence or kept of it, told behind it, where the source is not about sense."""

_NOTHING = r"""kein(?:e[rn]?)?~(?:text|antwort|angaben?|daten|inhalt|satz)|keine[rs]?|k\.\s?a\.?|leer|unbekannt|nichts
    |aucune?(?:~(?:réponse|donnée|texte|phrase))?|sans~objet|s\.\s?o\.|néant|vide|inconnue?|rien
    |sin~(?:respuesta|datos|texto)|ningun[oa]|vac[ií]o|desconocid[oa]|nada|nessun[oa]?(?:~\w+)?|vuot[oa]|niente|sconosciut[oa]
    |nenhuma?(?:~\w+)?|vazi[oa]|sem~(?:resposta|dados|texto)|geen(?:~(?:antwoord|tekst|gegevens))?|leeg|onbekend|brak(?:~danych)?|puste
    |нет(?:~(?:данных|ответа|текста))?|пусто|неизвестно|ничего|yok|boş|[暂暫]?[无無](?:内容|内容)?|空|没有|不适用|未知|(?:該当)?(?:なし|無し)|不明|(?:해당~)?없음|لا~شيء|لا~يوجد|कोई~नहीं"""
NOTHING = Rule(
    "no answer",
    pattern(rf"\A\W*+(?:{_NOTHING})\W*\Z"),
    pattern(rf"\A\W*[^\W\u2e80-\uffff]+\W*\Z|\b(?:{_NOTHING})\b"),
)
"""A word for nothing in place of a sentence."""

_A_TEXT = r"""(?:(?:re)?formulation|reformul\w*|riformulazion\w*|reformulaç\w+|herformulering|umformulierung
    |formulierung|paraphrase|par[aá]frasi?s?|parafrase|phrase|frase|zin|satz|oraci[oó]n|ora[cç][aã]o|version|versi[oó]n[ei]?|vers[aã]o
    |versie|variante?|réécriture|reescritura|riscrittura|réponse|respuesta|risposta|resposta|antwoord|antwort|proposition|exemple
    |ejemplo|esempio|exemplo|voorbeeld|beispiel|traduction|contradiction
    |contradicci[oó]n|contraddizione|contradi[cç][aã]o)"""
_SURE = rf"(?:(?:{_CONSENT})[\s,.!]+)?"
ANNOUNCED = pattern(
    rf"""\W*{_SURE}(?:
    (?:voici|voilà|ecco(?:ti|le|vi)?|aquí~(?:tienes?|está|va|te~\w+)|aqui~(?:está|vai|tem)|segue|eis|hier~(?:is|volgt|heb~je|ist
      |kommt))~[^:.!?\n]{{0,40}}?\b{_A_TEXT}\b[^:.!?\n]{{0,30}}
    |(?:l[ae]~|une?~|il~|el~|una?~|[oa]~|uma?~|de~|een~|d(?:er|ie)~|eine?~)?(?:(?:nouvelle|autre|deuxième|seconde|nuova|altra|seconda|nueva|otra
      |segunda|nova|outra|nieuwe|tweede|andere|neuer?|zweiter?)~)?{_A_TEXT}~(?:\d|réécrite|reformulée|riscritta|riformulata
      |reescrita|reformulada|herschreven|umformuliert)
    |(?:une?~autre~|une~|un~altro~|una~|otra~|uma~|outra~|een~andere?~|eine~andere~)(?:façon|manière|modo|maniera|forma|manera
      |maneira|manier|art)\b[^:.!?\n]{{0,30}}
    |(?:en~d['’]autres~(?:termes|mots)|en~otras~palabras|in~altr[ei]~(?:parole|termini)|(?:em|por|noutras|com)~?(?:outras~)?palavras
      |met~andere~woorden|mit~anderen~worten))\s?[:：]\s"""
)
"""What announces the answer, up to the colon, whatever letter follows."""

_NOUN = r"(?:satz(?:es)?|sätze|phrases?|frases?|oraci[oó]n(?:es)?|orações|cümle(?:ler)?|zinn?(?:en)?)"
_TELLS = r"""(?:bedeute[tn]|(?:be)?sag(?:t|en)|beschreib(?:t|en)|lautet|heißt|signifi(?:e|ent|can?|cano)
    |veu(?:t|lent)~dire|di(?:t|sent|cen?|cono|z|zem)|décri(?:t|vent)|describen?|expr\w+|quer~dizer|vuol~dire|ont~le
    |beteken(?:t|en)|zeg(?:t|gen))"""
_DET = "(?:der|ein|la|une|el|una|de|een|a|uma|nouvelle|otra|nova|nuova|andere|neuer|zweiter|deuxième)~"
_A_SENTENCE = rf"""\b(?:umschreibung|reformulation|riformulazione)\b|\b(?:umformulier|paraphras|reformul|reescri[tb]
    |riscritt|riformul|parafras|herschreven|herformul|перефразиров|przeformułow)\w*|zdanie~(?:oznacza|mówi|znaczy)
    |предложени[ея]~(?:означает|говорит|значит)|[这這该該]个?句|[这這]句话|个句子|请.{{0,4}}句子|[この二]つ?の?文[はがを、]
    |[改重][写寫](?:后|後|的|成|如下|句|[这這])|言い換え|書き換えた文|이~문장|문장입|문장을~(?:입력|제공)|الجملة
    |\b{_NOUN}~(?:\w+~){{0,2}}?(?:{_TELLS})|\bcümle\b.{{0,60}}\b(?:söyl|anlat|ifade)\w*\W*\Z
    |\b(?:hier~(?:ist|is|kommt)|voici|voilà|ecco|aquí~(?:tienes?|está)|aqui~está|вот|welche[nr]?|quelles?|qué|quale
    |qual|welke|beide|deux|amb[ao]s|entrambe|ich~habe|bir)~(?:\w+~){{0,2}}?{_NOUN}\b"""
"""What names the sentence, or what was done to it."""
_SPEECH = {
    rf"""\A\W*+(?:(?:\w++\W{{1,2}}){{0,4}}?(?:{_A_SENTENCE})|(?:{_DET}){{0,2}}(?:\w++~)?{_NOUN}(?:~\w+)?\W*\Z)
      |\A.{{0,9}}(?:[这這]句话|[个個]句子|改写[后的成如]|言い換え)""": (
        rf"{_A_SENTENCE}|{_NOUN}|句|写|寫|文|言|書|문장|جمل|предложен|zdani|zin\b|satz"
    ),
    r"""\A\W*+(?:(?:das~heißt(?=,|~dass)|mit~anderen~worten|(?:anders|kurz)~gesagt|autrement~dit|c['’]est-à-dire|en~d['’]autres~(?:termes|mots)
      |es~decir|o~sea|en~otras~palabras|cioè|in~altre~parole|vale~a~dire|ou~seja|isto~é(?=,)|(?:em|por)~outras~palavras
      |met~andere~woorden|dat~wil~zeggen|то~есть|(?:другими|иными)~словами|yani|başka~bir~deyişle|innymi~słowy|to~znaczy(?=,)
      |즉|다시~말해|بعبارة~أخرى)\b|换句话说|换言之|也就是说|つまり|言い換えると|すなわち)""": (
        "heißt|ander|gesagt|autre|c['’]est|decir|sea|otr|cioè|altr|vale|seja|isto|outr|wil~zeg|есть|слов|yani|başka|inny"
        "|znacz|换|就是|つまり|즉|أخرى"
    ),
    r"""\A\W*+(?:man~(?:könnte|kann)~(?:auch~)?sagen|ich~würde~sagen|on~(?:pourrait|peut)~(?:aussi~)?dire|je~dirais
      |se~(?:podría|puede)~(?:también~)?decir|(?:yo~)?diría|si~(?:potrebbe|può)~(?:anche~)?dire|direi|pode(?:-se|ria-se)~dizer
      |men~(?:zou|kan)~(?:ook~)?(?:kunnen~)?zeggen|можно~(?:также~)?сказать|я~бы~сказала?|可以(?:[这這][么麼])?[说說]
      |(?:das~bedeutet,?~dass|(?:cela|ça)~(?:signifie|veut~dire)~qu|es[ot]o~significa~que|questo~significa~che|isso~significa~que
      |dat~betekent~dat|это~(?:означает|значит),~что|bu~şu~anlama))|\A[这這]意味[着著]|という意味です\W*\Z|と言え(?:る|ます)\W*\Z
      |(?:다는|라는)~뜻입니다\W*\Z""": (
        "sag|könnt|dir|dis|pourr|decir|dice|podr|puede|pot|può|diz|pode|zeg|сказ|можно|[说說言可]|bedeut|heiß|signif|vouloir|veut|beteken"
        "|значит|означ|意|anlam|뜻|말"
    ),
    r"""\A\W*+(?:(?:(?:vielen~)?dank[e]?|merci|(?:muchas~)?gracias|grazie|obrigad[oa]|bedankt|dank~je|спасибо|شكر\S*|dzięku\w+
      |질문해|sorunuz)\b|谢谢|感谢|ご質問).{0,20}(?:frage|question|pregunta|domanda|pergunta|vraag|вопрос|提问|问题|ありがとう|감사
      |سؤال|teşekkür|pytanie)""": ("dank|merci|grac|graz|obrig|спас|谢|ありがと|감사|شكر|teşekk|dzięk"),
    r"""\A\W*+(?:ich~)?hoffe,?~(?:das|dies|es)~hilft|\A\W*j['’]espère~que~(?:cela|ça)\b.{0,12}aide
      |\A\W*espero~(?:que~(?:esto|te|le)|ter).{0,9}(?:ayud|serv|ajud)|\A\W*spero~(?:che~)?(?:questo|ti)\b.{0,12}(?:aiut|util)
      |hopelijk~helpt|\A\W*надеюсь,?~(?:это~)?помо|希望.{0,4}(?:对|對)[你您].{0,3}(?:帮助|幫助)
      |お役に立て""": "hoff|esp|spero|hop|наде|希望|役",
}
_REPLIES = {
    r"""\A\W*+(?:(?:ich~)?weiß~(?:ich~)?(?:es~)?(?:leider~)?nicht|keine~ahnung|je~ne~sais~pas|(?:yo~)?no~(?:lo~)?sé
      |non~(?:lo~)?so|não~(?:o~)?sei|ik~weet~(?:het~)?niet|(?:я~)?не~знаю|我?不知道|わかりません|分かりません|知りません|모르겠(?:습니다|어요)|لا~أعرف
      |bilmiyorum|nie~wiem)\W*\Z""": (
        r"wiss|weiß|ahnung|sai[st]|savoir|sé\b|sab|ignor|so\b|sei\b|weet|зна|知|わか|분|모르|عرف|bil|wie[md]"
    ),
    r"""(?:wie|womit)~kann~ich~.{0,12}helfen|comment~puis-je~(?:vous|t['’])~?aider|en~qué~(?:te~|le~)?puedo~(?:ayudar|servir)
      |come~posso~aiutar|como~posso~(?:te~|lhe~)?ajudar|hoe~kan~ik~.{0,8}helpen|чем~(?:я~)?могу~(?:вам~|тебе~)?помочь|有什么.{0,6}帮
      |お手伝いでき(?:ます|る)|무엇을~도와|كيف~يمكنني~مساعدتك|nasıl~yardımcı~ol|w~czym~mogę~(?:ci~|panu~)?pomóc""": (
        "helf|hilf|aid|ayud|serv|aiut|ajud|help|помо|帮|手伝|도와|ساعد|yardım|pom"
    ),
    r"""\A\W*+(?:bitte~(?:geben|gib|nennen?|senden?|schick\w*)\b.{0,30}\b(?:satz|text)\b|veuillez~(?:fournir|indiquer|donner|saisir)\b
      |por~favor,?~(?:proporcion|indi[qc]|env[ií]|forne)\w*|per~favore,?~(?:fornisc|indic|invi)\w*|请您?(?:提供|输入|发送)
      |пожалуйста,?~(?:предостав|введ|укаж)\w*)|(?:文|テキスト).{0,3}(?:入力|提供).{0,4}ください""": (
        "bitte|veuill|favor|请|пожал|ください|fourn|proporc|forne"
    ),
    r"""\A\W*+(?:kein\w*~änderung\w*~(?:nötig|notwendig|erforderlich)|aucune?~(?:modification|changement)~n\w+|ningún~cambio~nec\w+
      |nessuna~modifica~nec\w+|nenhuma~(?:alteração|mudança)~nec\w+|无需(?:修改|更改)|変更は?不要
      |改写如下|以下.{0,8}(?:句子|改写|言い換え))""": ("änder|modif|chang|cambi|alter|mud|改|変"),
}
_OF_NOUNS = "phrase|frase|oraci|satz|sätze|zin"
_SAME = {
    r"""\A\W*+(?:der~satz~(?:bleibt|ist)~(?:\w+~)?(?:gleich|unverändert|klar|verständlich)
      |la~(?:phrase|frase)~(?:reste~la~même|reste~inchangée
      |est~déjà~\w+|ya~es(?:tá)?~(?:\w+~)?\w+|è~già~\w+|resta~(?:uguale|invariata)|queda~igual)|la~oración~ya~es(?:tá)?~\w+
      |a~frase~(?:já~(?:é|está)~\w+|permanece~\w+)|de~zin~(?:blijft~(?:hetzelfde|gelijk|ongewijzigd)
      |is~al~\w+))\W*\Z""": _OF_NOUNS,
    r"""\A\W*+(?:keine~(?:\w+~)?änderung(?:en)?|sans~(?:aucun~)?changements?|(?:sin|ningún)~cambios?|sem~(?:alterações|mudanças)
      |nessun[ao]?~(?:modifica|cambiamento)|geen~(?:wijziging(?:en)?|verandering(?:en)?)|aucun~changement)\W*\Z""": (
        "änder|chang|camb|alter|mud|modif|wijzig|verander"
    ),
    r"\A\W*+(?:(?:sehr~)?gern(?:e)?~geschehen|de~rien|de~nada|prego|graag~gedaan|je~vous~en~prie)\W*\Z": (
        "dank|merci|graci|grazi|obrig|bedankt|gern|rien|nada|prego|graag|prie"
    ),
}
_IMPOSSIBLE = {
    r"""\A\W*+(?:(?:das|dies)~ist~(?:leider~)?nicht~möglich|(?:leider~)?nicht~möglich
      |(?:malheureusement,?~)?(?:ce|cela)~?(?:n['’])?est~(?:malheureusement~)?(?:pas~)?(?:im)?possible|ce~n['’]est~(?:malheureusement~)?pas~possible
      |(?:lamentablemente,?~)?(?:(?:eso|esto)~)?no~es~posible|(?:purtroppo,?~)?non~è~possibile|(?:infelizmente,?~)?não~é~possível
      |(?:dat|dit)~is~(?:helaas~)?niet~mogelijk)\W*\Z""": (
        "möglich|geht|kann|könn|possib|peu[tx]|pouv|posib|pued|pod|poss|può|mogelijk|kan"
    ),
    r"""\A\W*+(?:no~se~puede~(?:cambiar|reformular|reescribir|modificar)~la~(?:frase|oración)|la~phrase~ne~peut~pas~être~\w+
      |(?:der|dieser)~satz~(?:kann|lässt~sich)~(?:leider~)?nicht~.{0,30}|la~frase~non~può~essere~\w+|a~frase~não~pode~ser~\w+
      |la~(?:frase|oración)~no~(?:se~)?puede~.{0,30}|de~zin~kan~niet~.{0,30})\W*\Z""": _OF_NOUNS,
}
_ENDS = {
    r"""[,;–—-]~(?:was~(?:dasselbe|das~gleiche|das~selbe)~(?:bedeutet|ist|heißt|besagt)|ce~qui~(?:revient~au~même|(?:signifie|veut~dire)~la~même~chose)
      |(?:lo~)?que~(?:es~lo~mismo|significa~lo~mismo)|il~che~(?:è~lo~stesso|significa~la~stessa~cosa)|o~que~(?:é|significa)~o~mesmo
      |wat~hetzelfde~(?:betekent|is)|wie~(?:gewünscht|verlangt|angegeben|gesagt|gefordert)|comme~(?:demandé|indiqué|souhaité)
      |como~(?:se~)?(?:pidió|pediste|solicitado|pedido|indicado)|come~(?:richiesto|indicato)|zoals~gevraagd)\W*\Z""": (
        "dasselbe|gleich|même|mismo|stess|mesmo|hetzelfde|wünsch|verlang|gesagt|demand|indi[qc]|souhait|pid|ped|solicit|richie|gevraagd"
    ),
}
_BOTH = {
    r"""\w,~(?:es~decir|o~sea|c['’]est-à-dire|das~heißt|cioè|ou~seja|vale~a~dire|dat~wil~zeggen|autrement~dit|en~otras~palabras|mit~anderen~worten
      |in~altre~parole|em~outras~palavras)\b,?~(?=\w+~\w+)""": (
        "decir|sea|c['’]est-à|heißt|cioè|seja|vale|wil~zeg|autrement|otras|anderen~worten|altre|outras"
    ),
    r"(?-i:[.!?][\"”»]?~(?:ou(?:~bien)?|oder|o(?:~bien)?|oppure|of(?=:?~[A-Z]))\s?:?~(?=\S+~\w))": (
        r"[.!?].?~(?:ou|oder|o|of|oppure)~"
    ),
}
_PERSONA = pattern(
    r"""\A\W*+(?:als~(?:ein~|een~|eine~)?(?:ki\b|ai\b|sprachmodell|taalmodel|ki-\w+|künstliche~intelligenz)|en~tant~que~(?:modèle|ia\b)
    |como~(?:um~|un~)?(?:modelo~(?:de~(?:leng|ling)|ling)|ia\b)|in~quanto~(?:modello|ia\b)|как~(?:языковая~модель|ии\b|искусственный)
    |作[为為]一?[个個]?(?:ai|人工智能|[语語]言模型)|(?:ai|人工知能|言語モデル)として|ai~언어~모델|bir~(?:yapay~zeka|dil~modeli)\b)"""
)

FAULTS = (
    CONSENT,
    LEAD,
    NOTHING,
    Rule("refusal", _PERSONA, _PERSONA),
    *SENSE,
    *(Rule("refusal", pattern(text), pattern(unless)) for text, unless in _IMPOSSIBLE.items()),
    *(Rule("no answer", pattern(text), pattern(unless)) for text, unless in _SAME.items()),
    *(Rule("talk", pattern(text), pattern(unless)) for text, unless in _ENDS.items()),
    *(Rule("several answers", pattern(text), pattern(unless)) for text, unless in _BOTH.items()),
    *(Rule("no answer", pattern(text), pattern(unless)) for text, unless in _REPLIES.items()),
    *(Rule("talk", pattern(text), pattern(unless)) for text, unless in _SPEECH.items()),
)
"""All that rejects a text unless its source sentence excuses it."""
